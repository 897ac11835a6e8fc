"""How it is measured: data, scores, jobs, records and the command line."""

import os
import signal
import sys

if os.path.basename(sys.argv[0]) in ("-m", "gan-bench"):  # noqa: PTH119
    # A command that is still importing. Ctrl-C ends it, with no traceback of imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("baselines", "bench", "reports"):
        if os.path.exists(f"{name}.py") and not sys.flags.safe_path:  # noqa: PTH110
            here = f"{name}.py in the working folder hides the package {name!r} of gan-bench"
            print(f"error: {here}: rename it, or work in another folder", file=sys.stderr)
            sys.exit(2)
