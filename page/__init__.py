"""What the page of `app.py` says: plain functions from texts to HTML. The view itself is in `app.py`."""
