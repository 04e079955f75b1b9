// MemoryManager against a naive model: one record per page and process, no sharing tricks, no
// batches. After each step some accesses, and from time to time every translation that the platform
// holds, must agree with the model.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sentry/mm/memory_manager.h"
#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

namespace {

constexpr uint64_t kBase = 0x200000000000;
constexpr uint64_t kPages = 96;
constexpr uint64_t kFilePages = 40;

// The bytes behind shared pages: one per page.
using Shared = std::shared_ptr<std::vector<uint8_t>>;

struct ModelPage {
  enum class Kind { kNone, kPrivate, kShared, kFile } kind = Kind::kNone;
  Prot prot = Prot::kNone;
  uint8_t value = 0;   // kPrivate
  Shared shared;       // kShared
  uint64_t index = 0;  // in shared, or in the file
  bool wipe = false, leave = false;
};

struct Process {
  Ref<MemoryManager> mm;
  std::vector<ModelPage> pages{kPages};
};

class Model {
 public:
  explicit Model(unsigned seed) : random_(seed) {
    std::string content;
    for (uint64_t i = 0; i < kFilePages; i++)
      content += std::string(kPage, static_cast<char>(i + 1));
    content.resize(content.size() - kPage / 2);
    file_ = make_ref<TestFile>(content);
    source_ = make_ref<TestFile>(std::string(kFilePages * kPage, 0), world_.file.get());
    source_bytes_ = std::make_shared<std::vector<uint8_t>>(kFilePages, 0);
    processes_.push_back({world_.mm(), std::vector<ModelPage>(kPages)});
  }
  ~Model() {
    processes_.clear();
    source_ = nullptr;
  }

  void step() {
    Process& p = processes_[pick(processes_.size())];
    switch (pick(16)) {
      case 0:
      case 1:
        return map_private(p);
      case 2:
        return map_shared(p);
      case 3:
        return map_file(p);
      case 4:
        return map_source(p);
      case 5:
        return unmap(p);
      case 6:
      case 7:
        return protect(p);
      case 8:
        return remap(p);
      case 9:
        return advise(p);
      case 10:
        return fork(p);
      case 11:
        return exit();
      case 12:
        return pick(2) == 0 ? lose(p) : fail_inside(p);
      default:
        return access(p);
    }
  }

  void check_all() {
    for (Process& p : processes_) {
      check_translations(p);
      for (uint64_t i = 0; i < kPages; i++) read(p, i);
      check_vmas(p);
    }
  }

 private:
  uint64_t pick(uint64_t below) { return random_() % below; }
  Range pages() {
    const uint64_t start = pick(kPages);
    return {start, start + 1 + pick(std::min<uint64_t>(kPages - start, 40))};
  }
  Prot prot() {
    constexpr std::array kAll{Prot::kNone, Prot::kRead, kRw, kRw, kRw, Prot::kRead | Prot::kExec};
    return kAll[pick(kAll.size())];
  }
  // The byte of a page that the model keeps, beyond the end in the last page of the file.
  static uint64_t at(uint64_t page) { return kBase + page * kPage + 3000; }

  MapRequest request(Range where, Prot protection) {
    MapRequest r;
    r.addr = kBase + where.start * kPage;
    r.length = where.size() * kPage;
    r.prot = protection;
    r.placement = MapRequest::Placement::kFixed;
    return r;
  }
  // Now and then the platform fails at some operation: then nothing has changed.
  bool map(Process& p, const MapRequest& r) {
    const bool sabotage = pick(20) == 0;
    if (sabotage) space_of(*p.mm).fail_at = static_cast<int>(pick(3));
    const auto mapped = p.mm->map(r, {});
    space_of(*p.mm).fail_at.reset();
    if (!sabotage) REQUIRE(mapped.ok());
    return mapped.ok();
  }

  void map_private(Process& p) {
    const Range where = pages();
    const Prot protection = prot();
    if (!map(p, request(where, protection))) return;
    for (uint64_t i = where.start; i < where.end; i++) {
      p.pages[i] = {.kind = ModelPage::Kind::kPrivate, .prot = protection};
    }
  }
  void map_shared(Process& p) {
    const Range where = pages();
    MapRequest r = request(where, prot());
    r.shared = true;
    if (!map(p, r)) return;
    const auto bytes = std::make_shared<std::vector<uint8_t>>(where.size(), 0);
    set_shared(p, where, r.prot, bytes, 0);
  }
  void set_shared(Process& p, Range where, Prot protection, const Shared& bytes, uint64_t first) {
    for (uint64_t i = where.start; i < where.end; i++) {
      p.pages[i] = {.kind = ModelPage::Kind::kShared,
                    .prot = protection,
                    .shared = bytes,
                    .index = first + (i - where.start)};
    }
  }
  void map_file(Process& p) {
    const Range where = pages();
    MapRequest r = request(where, prot());
    r.source = file_;
    const uint64_t first = pick(kFilePages);
    r.offset = first * kPage;
    if (!map(p, r)) return;
    for (uint64_t i = where.start; i < where.end; i++) {
      p.pages[i] = {
          .kind = ModelPage::Kind::kFile, .prot = r.prot, .index = first + (i - where.start)};
    }
  }
  void map_source(Process& p) {
    Range where = pages();
    const uint64_t first = pick(kFilePages);
    where.end = std::min(where.end, where.start + (kFilePages - first));
    MapRequest r = request(where, prot());
    r.source = source_;
    r.shared = true;
    r.offset = first * kPage;
    if (map(p, r)) set_shared(p, where, r.prot, source_bytes_, first);
  }
  void unmap(Process& p) {
    const Range where = pages();
    const bool sabotage = pick(10) == 0;
    if (sabotage) space_of(*p.mm).fail_at = 0;
    const auto done = p.mm->unmap(kBase + where.start * kPage, where.size() * kPage);
    space_of(*p.mm).fail_at.reset();
    if (!sabotage) REQUIRE(done.ok());
    if (!done) return;
    for (uint64_t i = where.start; i < where.end; i++) p.pages[i] = {};
  }
  void protect(Process& p) {
    const Range where = pages();
    const Prot protection = prot();
    const auto done =
        p.mm->protect(kBase + where.start * kPage, where.size() * kPage, protection, false);
    for (uint64_t i = where.start; i < where.end; i++) {
      if (p.pages[i].kind == ModelPage::Kind::kNone) {
        REQUIRE(done.error() == Errno::kNoMem);
        return;
      }
      p.pages[i].prot = protection;
    }
    REQUIRE(done.ok());
  }
  // Moves without resizing, over whatever is mapped there.
  void remap(Process& p) {
    const Range from = pages();
    const uint64_t to = pick(kPages - from.size() + 1);
    const bool overlaps = from.overlaps({to, to + from.size()});
    const auto done =
        p.mm->remap(kBase + from.start * kPage, from.size() * kPage, from.size() * kPage,
                    MREMAP_MAYMOVE | MREMAP_FIXED, kBase + to * kPage, {});
    if (overlaps) {
      REQUIRE(done.error() == Errno::kInval);
      return;
    }
    if (p.pages[from.start].kind == ModelPage::Kind::kNone) {
      REQUIRE(done.error() == Errno::kFault);
      return;
    }
    REQUIRE(done.ok());
    for (uint64_t i = 0; i < from.size(); i++) {
      p.pages[to + i] = std::exchange(p.pages[from.start + i], {});
    }
  }
  void advise(Process& p) {
    const Range where = pages();
    constexpr std::array kAll{MADV_DONTNEED, MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK};
    const int advice = kAll[pick(kAll.size())];
    (void)p.mm->advise(kBase + where.start * kPage, where.size() * kPage, advice);
    for (uint64_t i = where.start; i < where.end; i++) {
      ModelPage& page = p.pages[i];
      if (page.kind == ModelPage::Kind::kNone) continue;
      if (advice != MADV_DONTNEED) page.leave = advice == MADV_DONTFORK;
      if (advice == MADV_DONTNEED && page.kind == ModelPage::Kind::kPrivate) {
        // A private copy of a file page becomes the file's page again.
        page.value = 0;
        if (page.index != 0)
          page = {ModelPage::Kind::kFile, page.prot, 0,         nullptr,
                  page.index - 1,         page.wipe, page.leave};
      }
    }
  }
  void fork(Process& p) {
    if (processes_.size() == 5) return;
    auto child = p.mm->fork();
    REQUIRE(child.ok());
    Process copy{std::move(child).take(), p.pages};
    for (ModelPage& page : copy.pages) {
      if (page.leave) page = {};
    }
    processes_.push_back(std::move(copy));
  }
  void exit() {
    if (processes_.size() == 1) return;
    processes_.erase(processes_.begin() + static_cast<ptrdiff_t>(pick(processes_.size())));
  }
  // The platform forgets translations, as after operations that failed half-way.
  void lose(Process& p) {
    const Range where = pages();
    const std::array ops{Op::unmap({kBase + where.start * kPage, kBase + where.end * kPage})};
    REQUIRE(space_of(*p.mm).apply(ops).ok());
    // Only an operation of ours that failed can be the cause.
    space_of(*p.mm).fail_at = 0;
    constexpr uint64_t kElsewhere = 0x100000000000;
    const MapRequest request{.addr = kElsewhere, .length = kPage, .prot = kRw};
    REQUIRE_FALSE(p.mm->map(request, {}).ok());
  }

  // An operation of the platform fails in the middle of a fault: the guest just tries again.
  void fail_inside(Process& p) {
    space_of(*p.mm).fail_at = static_cast<int>(pick(3));
    std::byte b{};
    (void)p.mm->fault(at(pick(kPages)), pick(2) == 0 ? Access::kWrite : Access::kRead, {});
    (void)p.mm->copy_in(at(pick(kPages)), {&b, 1});
    space_of(*p.mm).fail_at.reset();
  }

  static bool beyond_end(const ModelPage& page) {
    return page.kind == ModelPage::Kind::kFile && page.index >= kFilePages;
  }
  // What a read finds: a byte, -1 for SIGSEGV, -2 for SIGBUS.
  static int expected(const ModelPage& page) {
    if (page.kind == ModelPage::Kind::kNone || page.prot == Prot::kNone) return -1;
    if (beyond_end(page)) return -2;
    if (page.kind == ModelPage::Kind::kShared) return (*page.shared)[page.index];
    if (page.kind == ModelPage::Kind::kPrivate) return page.value;
    return page.index == kFilePages - 1 ? 0 : static_cast<int>(page.index + 1);
  }
  void read(Process& p, uint64_t i) {
    const int wanted = expected(p.pages[i]);
    if (pick(3) == 0) {
      uint8_t byte = 0;
      const bool ok = p.mm->copy_in(at(i), writable_bytes_of(byte)).ok();
      REQUIRE(ok == (wanted >= 0));
      if (ok) REQUIRE(byte == wanted);
    } else {
      REQUIRE(load(*p.mm, at(i), pick(2) == 0) == wanted);
    }
  }
  void access(Process& p) {
    const uint64_t i = pick(kPages);
    read(p, i);
    ModelPage& page = p.pages[i];
    const auto value = static_cast<uint8_t>(pick(255) + 1);
    const bool writable = page.kind != ModelPage::Kind::kNone && has(page.prot, Prot::kWrite);
    const bool works = writable && !beyond_end(page);
    if (pick(3) == 0) {
      REQUIRE(p.mm->copy_out(at(i), bytes_of(value)).ok() == works);
    } else {
      const Touch wanted = works ? Touch::kDone : writable ? Touch::kBus : Touch::kSegv;
      // What a touch beyond the end wanted makes a difference only to who knows it.
      const bool knows = pick(2) == 0 || (!writable && beyond_end(page));
      REQUIRE(store(*p.mm, at(i), value, knows) == wanted);
    }
    if (!works) return;
    if (page.kind == ModelPage::Kind::kShared) {
      (*page.shared)[page.index] = value;
      return;
    }
    if (page.kind == ModelPage::Kind::kFile) page.index++;  // remembered for MADV_DONTNEED
    page.kind = ModelPage::Kind::kPrivate;
    page.value = value;
  }

  // No translation may show more, or anything else, than the model allows: this is where freed
  // pages that a guest can still reach would be found.
  void check_translations(Process& p) {
    for (uint64_t i = 0; i < kPages; i++) {
      const auto entry = space_of(*p.mm).find(at(i));
      if (!entry || entry->prot == Prot::kNone) continue;
      const int wanted = expected(p.pages[i]);
      REQUIRE(wanted != -1);
      if (has(entry->prot, Prot::kWrite)) REQUIRE(has(p.pages[i].prot, Prot::kWrite));
      if (wanted < 0) continue;
      uint8_t byte = 0;  // as a mapping shows what is beyond the end in the last page
      REQUIRE(pread(entry->fd, &byte, 1, static_cast<off_t>(entry->offset + at(i) % kPage)) >= 0);
      REQUIRE(byte == wanted);
    }
  }
  void check_vmas(Process& p) {
    uint64_t mapped = 0;
    for (const VmaInfo& vma : p.mm->vmas()) {
      for (uint64_t addr = vma.range.start; addr < vma.range.end; addr += kPage) {
        const ModelPage& page = p.pages[(addr - kBase) / kPage];
        REQUIRE(page.kind != ModelPage::Kind::kNone);
        REQUIRE(page.prot == vma.prot);
        mapped++;
      }
    }
    const auto in_model = std::ranges::count_if(
        p.pages, [](const ModelPage& page) { return page.kind != ModelPage::Kind::kNone; });
    REQUIRE(static_cast<uint64_t>(in_model) == mapped);
    REQUIRE(p.mm->usage().virtual_bytes == mapped * kPage);
  }

  World world_{32 * kMiB};
  std::mt19937 random_;
  Ref<TestFile> file_;
  Ref<TestFile> source_;
  Shared source_bytes_;
  std::vector<Process> processes_;
};

}  // namespace

TEST_CASE("MemoryManager behaves like one byte per page") {
  for (unsigned seed = 1; seed <= 16; seed++) {
    CAPTURE(seed);
    Model model(seed);
    for (int step = 0; step < 1500; step++) {
      CAPTURE(step);
      model.step();
      if (step % 25 == 0) model.check_all();
    }
    model.check_all();
  }
}
