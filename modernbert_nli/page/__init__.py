"""The parts of `app.py`: plain functions from texts to HTML, and in `command.py` the view itself."""
