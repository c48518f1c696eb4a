"""What the hub and the institutions must agree on."""

import logging

# PEFT imports bitsandbytes wherever it is installed, and that import complains of a kernel that is optional.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
