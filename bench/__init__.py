"""How it is measured: data, scores, jobs, records and the command line."""

import signal
import sys

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # A command (python -m bench.run) that is still importing: Ctrl-C ends it, with no traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
