"""What `train.py` is made of: data, states of the encoder, trainers of the two stages, and metrics."""
