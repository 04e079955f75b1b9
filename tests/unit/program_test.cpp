// Real programs of the host under the whole Sentry on the ptrace platform, without Gofer or
// sealing: files are copied into a tmpfs first, output goes to one.
#include <fcntl.h>
#include <sys/wait.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "platforms/factory.h"
#include "sentry/kernel/thread_group.h"
#include "src/base/bytes.h"
#include "tests/unit/test.h"
#include "tests/unit/test_sandbox.h"

using namespace boxrun;

namespace {

struct Outcome {
  int status = -1;
  std::string output;
};

class Machine {
 public:
  Machine() {
    auto backing = mm::MemoryFile::make_backing(-1).take();
    Failure failure;
    platform_ = platform::create({"ptrace", backing.file.get()}, failure);
    if (!platform_) FAIL(to_string(failure));
    sandbox_ = std::make_unique<test::TestSandbox>(
        *platform_, std::move(backing), test::TestSandbox::Options{.memory = uint64_t{1} << 30});
  }

  // Copies a host file to the same path in the guest.
  void import(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    REQUIRE(sandbox_->put(path, bytes).ok());
  }

  Outcome run(std::vector<std::string> argv) {
    const auto output = sandbox_->open("/output", O_CREAT | O_RDWR | O_TRUNC, 0644).take();
    const auto process = sandbox_->start(std::move(argv), output).take();
    Outcome outcome;
    outcome.status = sandbox_->kernel().wait(*process).status;
    outcome.output.resize(65536);
    IoBuffers to{std::as_writable_bytes(std::span(outcome.output))};
    outcome.output.resize(output->pread(to, 0).take());
    return outcome;
  }

 private:
  std::unique_ptr<platform::Platform> platform_;
  std::unique_ptr<test::TestSandbox> sandbox_;
};

}  // namespace

TEST_CASE("a static and a dynamic program of the host run") {
  Machine machine;
  const std::string tests = GUEST_PROGRAMS;
  machine.import(tests + "/hello_asm");
  const Outcome hello = machine.run({tests + "/hello_asm"});
  CHECK(WEXITSTATUS(hello.status) == 42);
  CHECK(hello.output.find("hello") != std::string::npos);

  for (const char* path :
       {"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/bin/echo", "/bin/sh"}) {
    machine.import(path);
  }
  const Outcome echo = machine.run({"/bin/echo", "one", "two"});
  CHECK(echo.status == 0);
  CHECK(echo.output == "one two\n");

  const Outcome shell =
      machine.run({"/bin/sh", "-c", "for i in 1 2 3; do /bin/echo $i; done; exit 7"});
  CHECK(WEXITSTATUS(shell.status) == 7);
  CHECK(shell.output == "1\n2\n3\n");
}
