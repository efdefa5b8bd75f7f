"""predict.py that stops for ever once a process has noted so many rows: to be interrupted or killed there.

    python tests/halting.py ROWS argument ...

However slow the machine is, whoever waits for ROWS rows finds them, and never a finished run.
"""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from modernbert_nli.prediction import command as predict
from modernbert_nli.prediction import rows as rows_of_a_file

rows, note = int(sys.argv[1]), rows_of_a_file.json_line
noted = 0


def note_or_stop(values: dict) -> bytes:
    global noted
    noted += 1
    while noted > rows:
        signal.pause()
    return note(values)


rows_of_a_file.json_line = note_or_stop
sys.exit(predict.main(sys.argv[2:]))
