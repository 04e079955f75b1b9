# needs: python3
# timeout: 120
import multiprocessing as mp, os
from multiprocessing import shared_memory
def square(x): return x * x
def count(value, lock, n):
    for _ in range(n):
        with lock: value.value += 1
def talk(connection): connection.send(connection.recv() + 1); connection.close()
def put(queue, i): queue.put(i)
def fill(name): memory = shared_memory.SharedMemory(name); memory.buf[:5] = b"hello"; memory.close()
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        with context.Pool(3) as pool: print(method, pool.map(square, range(10)))
        value, lock = context.Value("i", 0, lock=False), context.Lock()
        ps = [context.Process(target=count, args=(value, lock, 200)) for _ in range(3)]
        [p.start() for p in ps]; [p.join() for p in ps]; print(value.value, [p.exitcode for p in ps])
        here, there = context.Pipe(); p = context.Process(target=talk, args=(there,)); p.start(); here.send(41); print(here.recv()); p.join()
        queue = context.Queue(); ps = [context.Process(target=put, args=(queue, i)) for i in range(4)]
        [p.start() for p in ps]; print(sorted(queue.get() for _ in ps)); [p.join() for p in ps]
    memory = shared_memory.SharedMemory(create=True, size=100); p = mp.Process(target=fill, args=(memory.name,)); p.start(); p.join()
    print(bytes(memory.buf[:5])); memory.close(); memory.unlink()
    p = mp.Process(target=os._exit, args=(4,)); p.start(); p.join(); print(p.exitcode)
    with mp.Manager() as manager: d = manager.dict(); d["k"] = 1; print(dict(d))
