"""The page of a published model: a template, what is known of data sets, and what fills it in."""
