#include "sentry/loader/program_loader.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/image.h"
#include "sentry/loader/script.h"
#include "sentry/loader/stack.h"
#include "sentry/syscalls/support.h"
#include "sentry/vfs/operations.h"

namespace boxrun::loader {
namespace {

using kernel::ExecRequest;
using kernel::Task;
using mm::Prot;
using vfs::FileDescription;

constexpr int kMaxScriptDepth = 5;                     // fs/exec.c: exec_binprm
constexpr uint64_t kStackRoom = uint64_t{128} * 1024;  // mapped below the initial stack pointer
constexpr uint64_t kStackRandom = uint64_t{1} << 34;   // 22 bits of pages
constexpr uint64_t kBrkRandom = uint64_t{1} << 25;     // arch_randomize_brk: 32 MiB

class FileReader final : public ImageReader {
 public:
  explicit FileReader(FileDescription& file) : file_(file) {}
  Result<size_t> read_at(uint64_t offset, std::span<std::byte> to) override {
    if (offset > INT64_MAX) return size_t{0};
    IoBuffers buffers(to);
    while (!buffers.empty()) {
      const auto at = static_cast<int64_t>(offset + to.size() - buffers.remaining());
      if (TRY(file_.pread(buffers, at)) == 0) break;
    }
    return to.size() - buffers.remaining();
  }

 private:
  FileDescription& file_;
};

Result<Ref<FileDescription>> open_program(Task& task, const ExecRequest& request) {
  syscalls::FileCaller caller(task);
  const bool may_be_empty = (request.flags & AT_EMPTY_PATH) != 0;
  const auto at = TRY(syscalls::at_of(task, {request.dirfd}, request.path, request.flags));
  const auto follow =
      (request.flags & AT_SYMLINK_NOFOLLOW) != 0 ? vfs::Follow::kNo : vfs::Follow::kYes;
  return vfs::open_executable(caller, at, follow, may_be_empty);
}

// The name by which an interpreter finds a script that was started through a descriptor
// (execveat(2)).
std::string script_name(const ExecRequest& request) {
  if (request.dirfd == AT_FDCWD || request.path.starts_with('/')) return request.path;
  if (request.path.empty()) return fmt::format("/dev/fd/{}", request.dirfd);
  return fmt::format("/dev/fd/{}/{}", request.dirfd, request.path);
}

// The interpreter could not open the name that it is given: the descriptor is closed by then
// (fs/binfmt_script.c, BINPRM_FLAGS_PATH_INACCESSIBLE).
bool lost_by_exec(Task& task, const ExecRequest& request) {
  if (request.dirfd == AT_FDCWD || request.path.starts_with('/')) return false;
  const auto on_exec = task.fds().on_exec(request.dirfd);
  return on_exec.ok() && *on_exec == vfs::FdTable::OnExec::kClose;
}

Aslr aslr_of(Task& task) {
  return (task.persona & ADDR_NO_RANDOMIZE) != 0 ? Aslr::kOff : Aslr::kOn;
}

std::string base_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string comm_of(const ExecRequest& request) {
  return request.path.empty() ? std::to_string(request.dirfd) : base_name(request.path);
}

}  // namespace

// What is to be run once scripts have been followed to their interpreter.
struct ProgramLoader::Program {
  Ref<FileDescription> file;
  ElfFile elf;
  std::string filename;  // AT_EXECFN
  std::vector<std::string> argv, envp;
  bool has_linker = false;
  Placed placed, linker;
  uint64_t entry = 0;  // where execution begins: the linker's entry if there is one
  uint64_t vdso = 0;
};

Result<ProgramLoader::Program> ProgramLoader::resolve(Task& task,
                                                      const ExecRequest& request) const {
  Program program;
  program.filename = script_name(request);
  program.argv = request.argv;
  program.envp = request.envp;
  // Linux 5.18 gives a program without argv an empty argv[0].
  if (program.argv.empty()) program.argv.emplace_back();
  ExecRequest current{request.dirfd, request.path, request.flags, {}, {}};
  for (int depth = 0;; depth++) {
    if (depth > kMaxScriptDepth) return Errno::kLoop;
    program.file = TRY(open_program(task, current));
    FileReader reader(*program.file);
    char head[256];
    const size_t size = TRY(reader.read_at(0, std::as_writable_bytes(std::span(head))));
    const auto script = TRY(parse_shebang(std::span(head, size)));
    if (!script) break;
    if (depth == 0 && lost_by_exec(task, request)) return Errno::kNoEnt;
    program.argv.front() = script_name(current);
    if (script->argument) program.argv.insert(program.argv.begin(), *script->argument);
    program.argv.insert(program.argv.begin(), script->interpreter);
    current = {AT_FDCWD, script->interpreter, 0, {}, {}};
  }
  FileReader reader(*program.file);
  program.elf = TRY(parse_elf(reader));
  return program;
}

namespace {

Result<ImageFile> image_file(const Ref<FileDescription>& file) {
  auto source = file->map();
  // A file that cannot be mapped cannot be run.
  if (!source.ok() || !*source) return Errno::kNoExec;
  return ImageFile{std::move(*source), file};
}

// Maps PT_INTERP's program. A dynamic linker that is no ELF file is ELIBBAD.
Result<Placed> map_linker(Task& task, const std::string& path, mm::MemoryManager& mm, Aslr aslr,
                          uint64_t& entry) {
  const auto file = TRY(open_program(task, {AT_FDCWD, path, 0, {}, {}}));
  FileReader reader(*file);
  auto elf = parse_elf(reader);
  if (!elf.ok()) return elf.error() == Errno::kNoExec ? Errno::kLibBad : elf.error();
  const Placed placed = TRY(
      place_image(mm, *elf, TRY(image_file(file)), Where::kMmapBase, aslr, task.memory_limits()));
  entry = elf->entry + placed.bias;
  // Only programs stay busy while they run, dynamic linkers do not (fs/binfmt_elf.c).
  file->give_up_claim();
  return placed;
}

// The stack region: from the top of the address space less a random gap, growing down.
Result<uint64_t> map_stack(mm::MemoryManager& mm, const Stack& stack, uint64_t top, bool executable,
                           const mm::Limits& limits) {
  mm::MapRequest region;
  region.addr = page_down(stack.start) - kStackRoom;
  region.length = top - region.addr;
  region.prot = Prot::kRead | Prot::kWrite | (executable ? Prot::kExec : Prot::kNone);
  region.placement = mm::MapRequest::Placement::kFixedNoReplace;
  region.grows_down = region.stack = true;
  region.name = "[stack]";
  TRY(mm.map(region, limits));
  TRY(mm.copy_out(stack.start, stack.bytes));
  return stack.start;
}

}  // namespace

Result<void> ProgramLoader::map_program(Task& task, Program& program, Aslr aslr,
                                        kernel::ExecImage& image) const {
  const mm::Limits limits = task.memory_limits();
  const ElfFile& elf = program.elf;
  const bool dynamic = !elf.interpreter.empty();
  program.placed = TRY(place_image(*image.mm, elf, TRY(image_file(program.file)),
                                   dynamic ? Where::kProgramBase : Where::kMmapBase, aslr, limits));
  program.entry = elf.entry + program.placed.bias;
  if (dynamic) {
    program.linker = TRY(map_linker(task, elf.interpreter, *image.mm, aslr, program.entry));
    program.has_linker = true;
  }
  program.vdso = TRY(vdso_.map_into(*image.mm, limits));
  return {};
}

namespace {

std::vector<std::pair<uint64_t, uint64_t>> auxiliary_vector(const Credentials& cred, bool secure,
                                                            uint64_t vdso, uint64_t phdr,
                                                            uint64_t phnum, uint64_t base,
                                                            uint64_t entry) {
  // Signal frames carry the whole XSAVE area (arch/x86/kernel/signal.c: get_sigframe_size).
  const uint64_t min_signal_stack = getauxval(AT_MINSIGSTKSZ);
  return {{AT_SYSINFO_EHDR, vdso},
          {AT_MINSIGSTKSZ, min_signal_stack != 0 ? min_signal_stack : 2048},
          {AT_HWCAP, getauxval(AT_HWCAP)},
          {AT_PAGESZ, kPageSize},
          {AT_CLKTCK, 100},
          {AT_PHDR, phdr},
          {AT_PHENT, sizeof(Elf64_Phdr)},
          {AT_PHNUM, phnum},
          {AT_BASE, base},
          {AT_FLAGS, 0},
          {AT_ENTRY, entry},
          {AT_UID, cred.ruid},
          {AT_EUID, cred.euid},
          {AT_GID, cred.rgid},
          {AT_EGID, cred.egid},
          {AT_SECURE, secure ? 1 : 0},
          {AT_HWCAP2, getauxval(AT_HWCAP2)}};
}

// execve(2): all registers zero but these (arch/x86/kernel/process_64.c: start_thread).
platform::Registers initial_registers(uint64_t entry, uint64_t stack) {
  platform::Registers r{};
  r.rip = entry;
  r.rsp = stack;
  r.cs = 0x33;
  r.ss = 0x2b;
  r.eflags = 0x200;
  return r;
}

}  // namespace

Result<kernel::ExecImage> ProgramLoader::load(Task& task, const ExecRequest& request) {
  Program program = TRY(resolve(task, request));
  kernel::ExecImage image;
  image.comm = comm_of(request);
  image.exe = program.file;

  const vfs::Attributes attributes = TRY(program.file->attributes());
  const bool setid = !program.file->path().mount->has(vfs::MountFlags::kNoSuid);
  auto identity =
      kernel::exec_credentials(task, attributes.mode, attributes.uid, attributes.gid, setid);
  image.readable = vfs::check_access(attributes, task.cred(), vfs::kMayRead).ok();
  image.secure = identity.secure;

  // A program with rights of its own is laid out at random whatever its caller asked for.
  const Aslr aslr = image.secure ? Aslr::kOn : aslr_of(task);
  image.mm =
      TRY(mm::MemoryManager::create(task.kernel().platform(), task.kernel().memory_file(), aslr));
  TRY(map_program(task, program, aslr, image));

  const ElfFile& elf = program.elf;
  StackContents contents;
  contents.argv = std::move(program.argv);
  contents.envp = std::move(program.envp);
  contents.filename = program.filename;
  (void)!getrandom(contents.random.data(), contents.random.size(), 0);
  contents.auxv = auxiliary_vector(
      *identity.cred, image.secure, program.vdso, elf.phdr_vaddr + program.placed.bias, elf.phnum,
      program.has_linker ? program.linker.bias : 0, elf.entry + program.placed.bias);
  const uint64_t top = image.mm->user_addresses().end - random_offset(kStackRandom, aslr);
  const mm::Limits limits = task.memory_limits();
  const Stack stack = TRY(build_stack(contents, top, limits.stack));
  TRY(map_stack(*image.mm, stack, top, elf.executable_stack, limits));

  mm::Layout layout;
  layout.start_code = program.placed.start;
  layout.end_code = layout.start_data = layout.end_data = program.placed.end;
  layout.start_brk = *page_up(program.placed.end) + random_offset(kBrkRandom, aslr);
  layout.start_stack = stack.start;
  layout.args = stack.args;
  layout.env = stack.env;
  layout.vdso = program.vdso;
  layout.auxv = stack.auxv;
  image.mm->set_layout(std::move(layout));

  image.registers = initial_registers(program.entry, stack.start);
  image.cred = std::move(identity.cred);
  return image;
}

}  // namespace boxrun::loader
