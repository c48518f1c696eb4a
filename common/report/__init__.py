"""Building blocks of HTML reports and of the figures and words in them."""
