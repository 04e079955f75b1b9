# needs: python3
import importlib, pkgutil, sys
names = ["json", "asyncio", "http.client", "sqlite3", "decimal", "ssl", "hashlib", "zlib", "bz2", "lzma", "xml.etree.ElementTree", "email", "unittest",
         "logging", "csv", "datetime", "random", "statistics", "re", "uuid", "curses", "readline", "ctypes", "multiprocessing", "concurrent.futures", "tarfile"]
for name in names:
    try: print(name, importlib.import_module(name).__name__)
    except ImportError as error: print(name, "missing", error.name)
import decimal, hashlib, json, zlib, datetime
print(json.dumps({"a": [1, 2.5, None]}), decimal.Decimal(1) / 3, hashlib.sha256(b"x").hexdigest()[:8], zlib.crc32(b"x"))
print(datetime.datetime.fromtimestamp(0, datetime.timezone.utc).isoformat(), sys.version_info[:2] >= (3, 9), len(list(pkgutil.iter_modules())) > 100)
