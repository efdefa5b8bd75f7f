"""From a folder to a repository of the Hub, and back again to see that it arrived."""
