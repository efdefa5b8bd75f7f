"""Where people already are: each file stands alone and needs the package that it is named after."""
