# needs: python3
import os, sqlite3, threading
db = sqlite3.connect("data.db"); db.execute("create table t (id integer primary key, name text, value real)")
with db: db.executemany("insert into t (name, value) values (?, ?)", [(f"n{i % 17}", i / 3) for i in range(5000)])
print(db.execute("select name, count(*), round(sum(value), 2) from t group by name order by name limit 3").fetchall())
try:
    with db: db.execute("delete from t"); raise ValueError
except ValueError: pass
print(db.execute("select count(*) from t").fetchone()); db.execute("create index i on t (name)"); print(db.execute("pragma integrity_check").fetchone())
print(db.execute("pragma journal_mode=wal").fetchone())
def writer(n):
    c = sqlite3.connect("data.db", timeout=30)
    for i in range(50):
        with c: c.execute("insert into t (name, value) values (?, ?)", (f"w{n}", i))
    c.close()
ts = [threading.Thread(target=writer, args=(n,)) for n in range(3)]; [t.start() for t in ts]; [t.join() for t in ts]
print(db.execute("select name, count(*) from t where name like 'w%' group by name order by name").fetchall())
other = sqlite3.connect("data.db", timeout=0.05); db.execute("begin immediate")
try: other.execute("begin immediate")
except sqlite3.OperationalError as e: print(e)
db.rollback(); db.execute("vacuum"); other.close(); db.close(); print(sorted(os.listdir("."))[-1], os.path.getsize("data.db") % 4096)
