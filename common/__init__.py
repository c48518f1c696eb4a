"""Code that hub and institutions share: formats, protocol, models and accounting."""

import logging

# PEFT imports bitsandbytes wherever it is installed, and that import complains of a kernel that is optional.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
