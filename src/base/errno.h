#pragma once
#include <cerrno>
#include <cstdint>
#include <string_view>

namespace boxrun {

// Every error a system call of the guest can see (errno(3)), plus four that only live between a
// handler and the return to the guest (linux/errno.h): they say how an interrupted call restarts.
enum class Errno : int16_t {
  kOk = 0,
  kPerm = EPERM,
  kNoEnt = ENOENT,
  kSrch = ESRCH,
  kIntr = EINTR,
  kIo = EIO,
  kNxIo = ENXIO,
  k2Big = E2BIG,
  kNoExec = ENOEXEC,
  kBadF = EBADF,
  kChild = ECHILD,
  kAgain = EAGAIN,
  kNoMem = ENOMEM,
  kAcces = EACCES,
  kFault = EFAULT,
  kNotBlk = ENOTBLK,
  kBusy = EBUSY,
  kExist = EEXIST,
  kXDev = EXDEV,
  kNoDev = ENODEV,
  kNotDir = ENOTDIR,
  kIsDir = EISDIR,
  kInval = EINVAL,
  kNFile = ENFILE,
  kMFile = EMFILE,
  kNoTty = ENOTTY,
  kTxtBsy = ETXTBSY,
  kFBig = EFBIG,
  kNoSpc = ENOSPC,
  kSPipe = ESPIPE,
  kRoFs = EROFS,
  kMLink = EMLINK,
  kPipe = EPIPE,
  kDom = EDOM,
  kRange = ERANGE,
  kDeadlk = EDEADLK,
  kNameTooLong = ENAMETOOLONG,
  kNoLck = ENOLCK,
  kNoSys = ENOSYS,
  kNotEmpty = ENOTEMPTY,
  kLoop = ELOOP,
  kNoMsg = ENOMSG,
  kIdRm = EIDRM,
  kNoStr = ENOSTR,
  kNoData = ENODATA,
  kTime = ETIME,
  kNoLink = ENOLINK,
  kProto = EPROTO,
  kBadMsg = EBADMSG,
  kOverflow = EOVERFLOW,
  kBadFd = EBADFD,
  kLibBad = ELIBBAD,
  kIlSeq = EILSEQ,
  kUsers = EUSERS,
  kNotSock = ENOTSOCK,
  kDestAddrReq = EDESTADDRREQ,
  kMsgSize = EMSGSIZE,
  kProtoType = EPROTOTYPE,
  kNoProtoOpt = ENOPROTOOPT,
  kProtoNoSupport = EPROTONOSUPPORT,
  kSockTNoSupport = ESOCKTNOSUPPORT,
  kOpNotSupp = EOPNOTSUPP,
  kPfNoSupport = EPFNOSUPPORT,
  kAfNoSupport = EAFNOSUPPORT,
  kAddrInUse = EADDRINUSE,
  kAddrNotAvail = EADDRNOTAVAIL,
  kNetDown = ENETDOWN,
  kNetUnreach = ENETUNREACH,
  kConnAborted = ECONNABORTED,
  kConnReset = ECONNRESET,
  kNoBufs = ENOBUFS,
  kIsConn = EISCONN,
  kNotConn = ENOTCONN,
  kShutdown = ESHUTDOWN,
  kTooManyRefs = ETOOMANYREFS,
  kTimedOut = ETIMEDOUT,
  kConnRefused = ECONNREFUSED,
  kHostDown = EHOSTDOWN,
  kHostUnreach = EHOSTUNREACH,
  kAlready = EALREADY,
  kInProgress = EINPROGRESS,
  kStale = ESTALE,
  kDQuot = EDQUOT,
  kCanceled = ECANCELED,
  kNoKey = ENOKEY,
  kOwnerDead = EOWNERDEAD,
  kNotRecoverable = ENOTRECOVERABLE,
  // Never reach the guest; resolved in one place, kernel/task_run (signal(7), "Interruption of
  // system calls"; kernel/signal.c: handle_signal).
  kRestartSys = 512,     // restart if SA_RESTART or no handler ran, else EINTR
  kRestartNoIntr = 513,  // always restart
  kRestartNoHand = 514,  // restart only if no handler ran, else EINTR
  kRestartBlock = 516,   // restart through restart_syscall(2) with the remaining time, else EINTR
};

// "ENOENT" for kNoEnt; "E?" for a value that has no name.
std::string_view errno_name(Errno e);

// The value for a name as in "ENOENT"; kOk when there is none.
Errno errno_from_name(std::string_view name);

// The host's errno as a value. A host error outside 1..4095 becomes EIO.
constexpr Errno from_host(int host_errno) {
  return host_errno > 0 && host_errno < 4096 ? static_cast<Errno>(host_errno) : Errno::kIo;
}
inline Errno last_error() { return from_host(errno); }

}  // namespace boxrun
