// Every handler: what table.cpp binds.
#pragma once
#include "sentry/syscalls/cred.h"
#include "sentry/syscalls/dir.h"
#include "sentry/syscalls/fd.h"
#include "sentry/syscalls/file.h"
#include "sentry/syscalls/futex.h"
#include "sentry/syscalls/io.h"
#include "sentry/syscalls/mm.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/signal.h"
#include "sentry/syscalls/stat.h"
#include "sentry/syscalls/system.h"
#include "sentry/syscalls/time.h"
