"""What all tests need."""

import signal

# A shell gives what it starts in the background an ignored SIGINT, and that is inherited by every
# process of the tests, which then could not interrupt what they have started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
