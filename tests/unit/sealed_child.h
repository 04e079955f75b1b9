// Runs a piece of code in a child process that is sealed like one of ours, and tells how it ended.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>

#include "src/host/namespaces.h"
#include "src/host/process.h"
#include "src/host/seal.h"

namespace boxrun::host {

// Exit code of a child whose preparation failed; tests use small codes of their own.
constexpr int kNotPrepared = 99;

struct ChildEnd {
  int code = -1;   // exit code, or -1
  int signal = 0;  // that killed it, or 0
};

inline ChildEnd wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return {};
  }
  if (WIFSIGNALED(status)) return {-1, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

// Forks into `namespaces` and runs `body`, whose result is the exit code.
inline ChildEnd in_child(const NamespaceRequest& namespaces,
                         const std::function<int(LayerSet)>& body) {
  Result<Forked> forked = fork_into_namespaces(namespaces);
  if (!forked) return {};
  if (!forked->in_child()) return wait_for(forked->pid);
  if (forked->failure) {
    fprintf(stderr, "%s\n", to_string(*forked->failure).c_str());
    ::_exit(kNotPrepared);
  }
  ::_exit(body(forked->namespaces));
}

// A child sealed as `kind`, in the two namespaces that its file boundary needs.
inline ChildEnd in_sealed_child(ProcessKind kind, std::span<const FilterRow> rows,
                                const std::function<int()>& body) {
  const NamespaceRequest namespaces = {.wanted = {Layer::kUserNamespace, Layer::kMountNamespace}};
  return in_child(namespaces, [&](LayerSet layers) {
    MaybeFailure failure = confine_files({}, layers);
    if (!failure) failure = drop_rights({.kind = kind, .filter_rows = rows}, layers);
    if (!failure) failure = check_layers(kind, layers);
    if (!failure) return body();
    fprintf(stderr, "%s\n", to_string(*failure).c_str());
    return kNotPrepared;
  });
}

}  // namespace boxrun::host
