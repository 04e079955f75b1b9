#!/usr/bin/env python3
"""Writes the seeds of the targets whose inputs are too long to type: ./seeds.py, into corpus/."""
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def save(target, name, data):
    folder = os.path.join(CORPUS, "fuzz_" + target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


# --- elf_loader: length of the program, the program /p, the file /i

PT_LOAD, PT_INTERP, PT_GNU_STACK = 1, 3, 0x6474E551
ET_EXEC, ET_DYN = 2, 3


def elf(kind, entry, headers, tail=b""):
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", kind, 62, 1, entry, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    return head + b"".join(struct.pack("<IIQQQQQQ", *h) for h in headers) + tail


def load(flags, offset, vaddr, filesz, memsz, align=4096):
    return (PT_LOAD, flags, offset, vaddr, vaddr, filesz, memsz, align)


def loader_seeds():
    static = elf(ET_EXEC, 0x400078, [load(5, 0, 0x400000, 176, 176), load(6, 0, 0x10000000, 64, 0x3000)])
    pie = elf(ET_DYN, 0x100, [load(5, 0, 0, 300, 300), load(6, 0, 0x2000, 100, 0x1500, 0x200000),
                              (PT_GNU_STACK, 7, 0, 0, 0, 0, 0, 16)], bytes(100))
    with_linker = elf(ET_DYN, 0x100, [(PT_INTERP, 4, 176, 176, 176, 3, 3, 1), load(5, 0, 0, 179, 4096)], b"/i\0")
    linker = elf(ET_DYN, 0x40, [load(7, 0, 0, 120, 5000)])
    larger_in_file = elf(ET_EXEC, 0x400078, [load(5, 0, 0x400000, 176, 100)])
    descending = elf(ET_DYN, 0x100, [load(6, 0, 0x2000, 100, 100), load(5, 0, 0, 176, 176)])
    for name, program, interpreter in (
            ("larger_in_file", larger_in_file, b""), ("descending", descending, b""),
            ("static", static, b""), ("pie", pie, b""), ("dynamic", with_linker, linker),
            ("dynamic_bad", with_linker, b"no elf"), ("dynamic_static", with_linker, static),
            ("script", b"#! /i  an argument \necho", static), ("script_self", b"#!/p\n", b""),
            ("script_nested", b"#!/i\n", b"#!/p x\n"), ("script_cut", b"#!/" + b"i" * 300, b"")):
        save("elf_loader", name, struct.pack("<H", len(program)) + program + interpreter)


# --- path_walk: operations, see WalkFuzz::step

def text(value):
    return bytes([len(value)]) + value.encode()


def at(start, path):
    return bytes([start]) + text(path)


def walk_seeds():
    mkdir, symlink, rename, unlink, open_, start, walk = (bytes([n]) for n in (0, 1, 2, 3, 6, 7, 11))
    follow, empty, directory, last = 1, 2, 4, 8
    no_xdev, no_magic, no_links, beneath, in_root = 1, 2, 4, 8, 16

    def go(how, resolve, where):
        return walk + bytes([how, resolve]) + where

    save("path_walk", "plain", go(follow, 0, at(0, "/a/b/../b/./f")) + go(follow | directory, 0, at(1, "rel//c/")))
    save("path_walk", "links", go(follow, 0, at(0, "loop1")) + go(0, 0, at(0, "/loop1")) +
         go(follow, no_links, at(1, "abs/f")) + go(follow | last, 0, at(0, "dangling")))
    save("path_walk", "scoped", go(follow, in_root, at(1, "b/up/../../a/abs")) +
         go(follow, beneath, at(1, "b/up")) + go(follow, in_root, at(3, "../../../m/in")) +
         go(empty, beneath, at(3, "")))
    save("path_walk", "mounts", go(follow, no_xdev, at(0, "m/in")) + go(follow, no_xdev, at(2, "..")) +
         go(follow, no_magic, at(2, "out/again/in/out/b")) + go(last, 0, at(2, "../../..")))
    save("path_walk", "changes", mkdir + at(3, "x") + symlink + at(3, "x/l") + text("../../a") +
         rename + at(1, "b") + at(3, "x/b") + b"\x00" + go(follow, 0, at(3, "x/l/../x/b/c")) +
         start + at(3, "x/b/c") + b"\x01" + rename + at(0, "m") + at(0, "n") + b"\x02" +
         unlink + at(0, "jail/x/b/f") + go(follow, in_root, at(1, "../..")))
    save("path_walk", "open", open_ + struct.pack("<IHB", 0o100 | 2, 0o644, 0) + at(0, "new/") +
         open_ + struct.pack("<IHB", 0o100 | 2, 0o644, 0) + at(3, "new") +
         open_ + struct.pack("<IHB", 0o20200000 | 2, 0o600, 0) + at(3, ".") +
         open_ + struct.pack("<IHB", 0o200000, 0, in_root) + at(1, "/b/up"))


# --- syscalls: steps, see Steps::value

POKE = struct.pack("<H", 0xFFFF)


def small(n): return struct.pack("<BB", 0, n)
def fd(n): return struct.pack("<BB", 1, n)
def data(offset): return struct.pack("<BH", 2, offset)
def path(n): return struct.pack("<BB", 3, n)
def u64(n): return struct.pack("<BQ", 4, n & (2**64 - 1))
def result(n): return struct.pack("<BB", 5, n)
def u32(n): return struct.pack("<BI", 8, n & 0xFFFFFFFF)


AT_FDCWD = u32(-100)


def call(number, *args): return struct.pack("<H", number) + b"".join(args)
def poke(offset, value): return POKE + struct.pack("<H", offset) + value


def syscall_seeds():
    read, write, close, mmap, munmap, mremap, fork, wait4, exit_ = 0, 1, 3, 9, 11, 25, 57, 61, 60
    zero = small(0)
    open_a = call(2, path(0), u32(0o102), u32(0o644))
    save("syscalls", "file", open_a + call(write, fd(3), data(0), u32(5000)) + call(8, fd(3), zero, zero) +
         call(read, fd(3), data(64), u32(100)) + call(77, fd(3), u32(100)) + call(5, fd(3), data(0)) +
         call(82, path(0), path(1)) + call(87, path(1)) + call(close, fd(3)))
    save("syscalls", "pipe", call(293, data(0), u32(0o4000)) + call(write, fd(4), data(0), u32(100)) +
         call(276, fd(3), fd(4), small(50), zero) + call(read, fd(3), data(0), u32(100)) +
         call(72, fd(3), u32(1031), u32(4096)) + call(close, fd(4)) + call(read, fd(3), data(0), small(1)))
    save("syscalls", "memory", call(mmap, zero, u32(0x10000), small(3), small(0x22), u32(-1), zero) +
         call(mremap, result(0), u32(0x10000), u32(0x20000), small(1), zero) +
         call(28, result(0), u32(0x4000), small(4)) + call(10, result(0), u32(4096), small(1)) +
         call(munmap, result(0), u32(0x8000)) + call(12, zero))
    save("syscalls", "mapped_file", open_a + call(77, fd(3), u32(9000)) +
         call(mmap, zero, u32(0x3000), small(3), small(1), fd(3), zero) + call(26, result(2), u32(0x3000), small(4)) +
         call(77, fd(3), zero) + call(write, fd(3), result(2), u32(100)))
    save("syscalls", "fork", call(fork) + call(39) + call(wait4, u32(-1), data(0), small(1), zero) + call(62, zero, small(10)))
    save("syscalls", "thread", call(56, u32(0x3D0F00), data(0x7000), data(0), data(8), zero) +
         call(202, data(8), small(0), small(0), zero, zero, zero) + call(202, data(8), small(1), small(9), zero, zero, zero) + call(exit_, zero))
    save("syscalls", "signal", poke(0, u64(0x400110)) + poke(8, u64(0x04000000)) + poke(16, u64(0x400120)) +
         poke(24, zero) + call(13, small(10), data(0), zero, small(8)) + call(200, small(2), small(10)) +
         call(62, zero, small(10)) + call(14, zero, data(32), zero, small(8)))
    save("syscalls", "epoll", call(291, zero) + call(290, zero, zero) + poke(0, small(1)) +
         call(233, fd(3), small(1), fd(4), data(0)) + poke(32, small(9)) + call(write, fd(4), data(32), small(8)) +
         call(232, fd(3), data(64), small(4), zero) + call(233, fd(3), small(1), fd(3), data(0)))
    save("syscalls", "socket", call(53, small(1), small(1), zero, data(0)) + call(write, fd(3), data(0), small(9)) +
         call(45, fd(4), data(64), small(100), zero, zero, zero) +
         poke(128, zero) + poke(144, data(200)) + poke(152, small(1)) + poke(200, data(0)) + poke(208, small(9)) +
         call(44, fd(3), data(0), small(9), zero, zero, zero) + call(47, fd(4), data(128), zero) + call(48, fd(3), small(2)))
    save("syscalls", "inet", call(41, small(2), small(1), zero) + poke(0, u64(0x0100007F901F0002)) +
         call(49, fd(3), data(0), small(16)) + call(50, fd(3), small(5)) + call(41, small(2), u32(0o4001), zero) +
         call(42, fd(4), data(0), small(16)) + call(43, fd(3), zero, zero))
    save("syscalls", "names", call(83, path(2), u32(0o755)) + call(88, path(4), path(3)) + call(86, path(0), path(1)) +
         call(267, AT_FDCWD, path(3), data(0), small(64)) + call(316, AT_FDCWD, path(2), AT_FDCWD, path(1), small(2)) +
         call(84, path(2)) + call(188, path(0), path(25), data(0), small(8), zero) + call(80, path(2)) + call(79, data(0), u32(4096)))
    save("syscalls", "proc", call(257, AT_FDCWD, path(11), zero, zero) + call(read, fd(3), data(0), u32(4096)) +
         call(257, AT_FDCWD, path(8), zero, zero) + call(257, AT_FDCWD, path(12), small(2), zero) +
         call(17, fd(5), data(0), small(64), u64(0x10000000)) + call(89, path(13), data(0), small(64)))
    save("syscalls", "exec", call(fork) + call(59, path(6), zero, zero) + call(322, AT_FDCWD, path(7), zero, zero, zero) + call(39))
    save("syscalls", "timers", call(283, small(1), zero) + poke(24, u32(1000)) + call(286, fd(3), zero, data(0), zero) +
         call(read, fd(3), data(64), small(8)) + call(222, small(1), zero, data(128)) + call(223, zero, zero, data(0), zero) +
         call(35, data(16), zero))


if __name__ == "__main__":
    loader_seeds()
    walk_seeds()
    syscall_seeds()
