#pragma once

namespace boxrun::vfs {
class FdTable;
class FileDescription;
class FsContext;
class Mount;
class MountNamespace;
class Terminal;
}  // namespace boxrun::vfs

namespace boxrun::kernel {
class Kernel;
class Loader;
class PidNamespace;
class PosixTimer;
class ProcessGroup;
class ProcessTimers;
class Session;
class SyscallDispatcher;
class Task;
class ThreadGroup;
struct CloneArgs;
struct ExecImage;
struct ExecRequest;
}  // namespace boxrun::kernel
