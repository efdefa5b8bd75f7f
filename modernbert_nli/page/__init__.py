"""The parts of `app.py`: plain functions from texts to HTML, and in `view.py` the view itself."""
