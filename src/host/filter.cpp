#include "src/host/filter.h"

#include <seccomp.h>
#include <sys/syscall.h>

#include <cstdlib>
#include <memory>

namespace boxrun::host {
namespace {

struct FilterDeleter {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Filter = std::unique_ptr<void, FilterDeleter>;

Failure filter_failure(std::string what, int libseccomp_result) {
  return {std::move(what), "seccomp filter", from_host(-libseccomp_result),
          "needs a kernel with CONFIG_SECCOMP_FILTER"};
}

MaybeFailure set_attributes(scmp_filter_ctx context) {
  const std::array<std::pair<scmp_filter_attr, uint32_t>, 5> attributes = {{
      {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},  // i386 and x32 calls
      {SCMP_FLTATR_CTL_NNP, 1},
      {SCMP_FLTATR_CTL_TSYNC, 1},
      {SCMP_FLTATR_CTL_SSB, 1},       // our own code runs here, not the guest's: keep store bypass on
      {SCMP_FLTATR_CTL_OPTIMIZE, 2},  // a binary tree: cheaper to run and for the kernel to digest
  }};
  for (const auto& [attribute, value] : attributes) {
    if (const int result = ::seccomp_attr_set(context, attribute, value); result < 0) {
      return filter_failure("set up the seccomp filter", result);
    }
  }
  return std::nullopt;
}

int add_row(scmp_filter_ctx context, const FilterRow& row) {
  std::array<scmp_arg_cmp, 3> comparisons{};
  unsigned count = 0;
  for (const ArgCheck& check : row.checks) {
    if (check.mask == 0) continue;
    comparisons[count++] = SCMP_CMP64(check.index, SCMP_CMP_MASKED_EQ, check.mask, check.value);
  }
  return ::seccomp_rule_add_exact_array(context, SCMP_ACT_ALLOW, row.number, count,
                                        comparisons.data());
}

}  // namespace

std::string_view process_name(ProcessKind kind) {
  switch (kind) {
    case ProcessKind::kMonitor: return "monitor";
    case ProcessKind::kGofer: return "gofer";
    case ProcessKind::kSentry: return "sentry";
  }
  return "process";
}

std::vector<FilterRow> all_rows(ProcessKind kind, std::span<const FilterRow> extra) {
  std::vector<FilterRow> rows = rows_of(kind);
  rows.insert(rows.end(), extra.begin(), extra.end());
  return rows;
}

MaybeFailure install_filter(std::span<const FilterRow> rows) {
  const Filter filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (filter == nullptr) return filter_failure("allocate the seccomp filter", -ENOMEM);
  if (MaybeFailure failure = set_attributes(filter.get())) return failure;
  int result = ::seccomp_rule_add_exact(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SYS_clone3, 0);
  if (result < 0) return filter_failure("refuse clone3", result);
  for (const FilterRow& row : rows) {
    result = add_row(filter.get(), row);
    // EEXIST: two tables need the same call.
    if (result < 0 && result != -EEXIST) {
      return filter_failure("allow system call " + std::to_string(row.number) + " for " +
                                std::string(row.user),
                            result);
    }
  }
  result = ::seccomp_load(filter.get());
  if (result < 0) return filter_failure("load the seccomp filter", result);
  return std::nullopt;
}

}  // namespace boxrun::host
