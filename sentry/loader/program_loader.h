#pragma once
#include "sentry/kernel/exec.h"
#include "sentry/loader/image.h"
#include "sentry/loader/vdso_pages.h"
#include "sentry/mm/memory_file.h"

namespace boxrun::loader {

// execve's second half: from a path to a memory image that is ready to run. ELF files and
// interpreter scripts (execve(2)). Stateless; shared by all tasks.
class ProgramLoader final : public kernel::Loader {
 public:
  explicit ProgramLoader(const VdsoPages& vdso) : vdso_(vdso) {}
  Result<kernel::ExecImage> load(kernel::Task& task, const kernel::ExecRequest& request) override;

 private:
  struct Program;
  Result<Program> resolve(kernel::Task& task, const kernel::ExecRequest& request) const;
  Result<void> map_program(kernel::Task& task, Program& program, Aslr aslr,
                           kernel::ExecImage& image) const;

  const VdsoPages& vdso_;
};

}  // namespace boxrun::loader
