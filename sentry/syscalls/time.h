#pragma once
#include <signal.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_time(Task& task, UserOut<time_t> out);
Result<uint64_t> sys_gettimeofday(Task& task, UserOut<timeval> out, UserOut<struct timezone> zone);
Result<uint64_t> sys_clock_gettime(Task& task, ClockId clock, UserOut<timespec> out);
Result<uint64_t> sys_clock_getres(Task& task, ClockId clock, UserOut<timespec> out);
Result<uint64_t> sys_clock_settime(Task& task, ClockId clock, UserIn<timespec> in);
Result<uint64_t> sys_adjtimex(Task& task, UserInOut<timex> state);
Result<uint64_t> sys_clock_adjtime(Task& task, ClockId clock, UserInOut<timex> state);
Result<uint64_t> sys_nanosleep(Task& task, UserIn<timespec> duration, UserOut<timespec> left);
Result<uint64_t> sys_clock_nanosleep(Task& task, ClockId clock, Int flags, UserIn<timespec> time,
                                     UserOut<timespec> left);
Result<uint64_t> sys_getitimer(Task& task, Int which, UserOut<itimerval> out);
Result<uint64_t> sys_setitimer(Task& task, Int which, UserIn<itimerval> in, UserOut<itimerval> old);
Result<uint64_t> sys_alarm(Task& task, Unsigned seconds);
Result<uint64_t> sys_timer_create(Task& task, ClockId clock, UserIn<sigevent> event,
                                  UserOut<int> id);
Result<uint64_t> sys_timer_settime(Task& task, Int id, Int flags, UserIn<itimerspec> in,
                                   UserOut<itimerspec> old);
Result<uint64_t> sys_timer_gettime(Task& task, Int id, UserOut<itimerspec> out);
Result<uint64_t> sys_timer_getoverrun(Task& task, Int id);
Result<uint64_t> sys_timer_delete(Task& task, Int id);

}  // namespace boxrun::syscalls
