# needs: python3
import concurrent.futures, queue, threading, time
lock, total = threading.Lock(), 0
def add():
    global total
    for _ in range(10000):
        with lock: total += 1
threads = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]; print(total)
work, results = queue.Queue(), queue.Queue()
def worker():
    while (item := work.get()) is not None: results.put(item * item)
pool = [threading.Thread(target=worker) for _ in range(4)]
[t.start() for t in pool]; [work.put(i) for i in range(100)]; [work.put(None) for _ in pool]; [t.join() for t in pool]
print(sum(results.get() for _ in range(100)))
with concurrent.futures.ThreadPoolExecutor(4) as executor: print(list(executor.map(len, ["a", "bb", "ccc"])))
event = threading.Event(); threading.Timer(0.05, event.set).start(); print(event.wait(10), threading.Event().wait(0.01))
barrier = threading.Barrier(3); order = []
def meet(): barrier.wait(); order.append(1)
ts = [threading.Thread(target=meet) for _ in range(3)]; [t.start() for t in ts]; [t.join() for t in ts]; print(len(order), threading.active_count())
condition, ready = threading.Condition(), []
def consumer():
    with condition: condition.wait_for(lambda: ready, timeout=10); print("consumed", ready.pop())
c = threading.Thread(target=consumer); c.start(); time.sleep(0.02)
with condition: ready.append(7); condition.notify()
c.join(); local = threading.local(); local.x = 1; t = threading.Thread(target=lambda: print(hasattr(local, "x"))); t.start(); t.join()
