#!/usr/bin/env python3
"""summary.py TESTS.XML [LOG]: failures and skips of a ctest run, then "N passed, N failed, N skipped"."""

import sys
import xml.etree.ElementTree as ElementTree


def main():
    try:
        suite = ElementTree.parse(sys.argv[1]).getroot()
    except (OSError, ElementTree.ParseError):
        sys.stdout.write(open(sys.argv[2]).read()[-4000:])
        print("no test result was written")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    passed, failed, skipped = 0, 0, 0
    for case in suite.iter("testcase"):
        status, name = case.get("status"), case.get("name")
        output = (case.findtext("system-out") or "").strip()
        if status == "run":
            passed += 1
        elif status in ("notrun", "disabled") and case.find("skipped") is not None:
            skipped += 1
            reason = output.splitlines()[-1] if output else case.find("skipped").get("message", "")
            print(f"SKIPPED {name}: {reason}")
        else:
            failed += 1
            message = case.find("failure")
            print(f"FAILED {name}: {message.get('message') if message is not None else status}")
            print("\n".join("    " + line for line in output.splitlines()[-60:]))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
