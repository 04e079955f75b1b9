// /proc/cpuinfo from the CPUID instruction, which the guest can run as well
// (arch/x86/kernel/cpu/proc.c).
#include <cpuid.h>
#include <fmt/format.h>

#include <array>
#include <cstring>

#include "sentry/kernel/proc_node.h"
#include "sentry/kernel/scheduling.h"

namespace boxrun::kernel {
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};
Leaf cpuid(unsigned leaf, unsigned part = 0) {
  Leaf out;
  if (__get_cpuid_count(leaf, part, &out.a, &out.b, &out.c, &out.d) == 0) return {};
  return out;
}

// The names of one register's bits, from bit 0; an empty name is not shown
// (arch/x86/include/asm/cpufeatures.h).
using Names = std::array<const char*, 32>;
constexpr Names kLeaf1Edx = {"fpu",  "vme",   "de",   "pse",     "tsc",  "msr", "pae",  "mce",
                             "cx8",  "apic",  "",     "sep",     "mtrr", "pge", "mca",  "cmov",
                             "pat",  "pse36", "pn",   "clflush", "",     "dts", "acpi", "mmx",
                             "fxsr", "sse",   "sse2", "ss",      "ht",   "tm",  "ia64", "pbe"};
constexpr Names kExtendedEdx = {
    "",        "", "", "",         "",        "",       "", "",   "",         "",     "",
    "syscall", "", "", "",         "",        "",       "", "",   "mp",       "nx",   "",
    "mmxext",  "", "", "fxsr_opt", "pdpe1gb", "rdtscp", "", "lm", "3dnowext", "3dnow"};
constexpr Names kLeaf1Ecx = {"pni",    "pclmulqdq", "dtes64", "monitor", "ds_cpl",
                             "vmx",    "smx",       "est",    "tm2",     "ssse3",
                             "cid",    "sdbg",      "fma",    "cx16",    "xtpr",
                             "pdcm",   "",          "pcid",   "dca",     "sse4_1",
                             "sse4_2", "x2apic",    "movbe",  "popcnt",  "tsc_deadline_timer",
                             "aes",    "xsave",     "",       "avx",     "f16c",
                             "rdrand", "hypervisor"};
constexpr Names kExtendedEcx = {"lahf_lm",
                                "cmp_legacy",
                                "svm",
                                "extapic",
                                "cr8_legacy",
                                "abm",
                                "sse4a",
                                "misalignsse",
                                "3dnowprefetch",
                                "osvw",
                                "ibs",
                                "xop",
                                "skinit",
                                "wdt",
                                "",
                                "lwp",
                                "fma4",
                                "tce",
                                "",
                                "nodeid_msr",
                                "",
                                "tbm",
                                "topoext",
                                "perfctr_core",
                                "perfctr_nb",
                                "",
                                "bpext",
                                "ptsc",
                                "perfctr_llc",
                                "mwaitx",
                                "",
                                ""};
constexpr Names kLeaf7Ebx = {
    "fsgsbase",   "tsc_adjust", "sgx",        "bmi1",     "hle",      "avx2",     "",
    "smep",       "bmi2",       "erms",       "invpcid",  "rtm",      "cqm",      "",
    "mpx",        "rdt_a",      "avx512f",    "avx512dq", "rdseed",   "adx",      "smap",
    "avx512ifma", "",           "clflushopt", "clwb",     "intel_pt", "avx512pf", "avx512er",
    "avx512cd",   "sha_ni",     "avx512bw",   "avx512vl"};
constexpr Names kXsave = {"xsaveopt", "xsavec", "xgetbv1", "xsaves"};
constexpr Names kLeaf7Ecx = {"",
                             "avx512vbmi",
                             "umip",
                             "pku",
                             "ospke",
                             "waitpkg",
                             "avx512_vbmi2",
                             "",
                             "gfni",
                             "vaes",
                             "vpclmulqdq",
                             "avx512_vnni",
                             "avx512_bitalg",
                             "tme",
                             "avx512_vpopcntdq",
                             "",
                             "la57",
                             "",
                             "",
                             "",
                             "",
                             "",
                             "rdpid",
                             "",
                             "bus_lock_detect",
                             "cldemote",
                             "",
                             "movdiri",
                             "movdir64b",
                             "enqcmd",
                             "",
                             ""};
constexpr Names kLeaf7Edx = {"",
                             "",
                             "avx512_4vnniw",
                             "avx512_4fmaps",
                             "fsrm",
                             "",
                             "",
                             "",
                             "avx512_vp2intersect",
                             "",
                             "md_clear",
                             "",
                             "",
                             "",
                             "serialize",
                             "",
                             "",
                             "",
                             "pconfig",
                             "arch_lbr",
                             "ibt",
                             "",
                             "amx_bf16",
                             "avx512_fp16",
                             "amx_tile",
                             "amx_int8",
                             "",
                             "",
                             "flush_l1d",
                             "arch_capabilities",
                             "",
                             ""};

std::string flags() {
  std::string out;
  const auto add = [&](unsigned bits, const Names& names) {
    for (unsigned bit = 0; bit < 32; bit++) {
      const char* name = names[bit];
      if ((bits >> bit & 1) == 0 || name == nullptr || *name == '\0') continue;
      if (!out.empty()) out += ' ';
      out += name;
    }
  };
  const Leaf one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001);
  add(one.d, kLeaf1Edx);
  add(extended.d, kExtendedEdx);
  add(one.c, kLeaf1Ecx);
  add(extended.c, kExtendedEcx);
  add(seven.b, kLeaf7Ebx);
  add(cpuid(0xd, 1).a, kXsave);
  add(seven.c, kLeaf7Ecx);
  add(seven.d, kLeaf7Edx);
  return out;
}

std::string vendor() {
  const Leaf zero = cpuid(0);
  char text[13] = {};
  memcpy(text, &zero.b, 4);
  memcpy(text + 4, &zero.d, 4);
  memcpy(text + 8, &zero.c, 4);
  return text;
}

std::string model_name() {
  std::string name;
  if (cpuid(0x80000000).a < 0x80000004) return "unknown";
  for (unsigned leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
    const Leaf part = cpuid(leaf);
    name.append(reinterpret_cast<const char*>(&part), sizeof part);
  }
  name.resize(strnlen(name.data(), name.size()));
  name.erase(0, std::min(name.find_first_not_of(' '), name.size()));
  name.erase(name.find_last_not_of(' ') + 1);
  return name;
}

}  // namespace

Result<std::string> proc_cpuinfo(const ProcSubject&) {
  const std::vector<unsigned> cpus = sandbox_cpus();
  const Leaf zero = cpuid(0), one = cpuid(1), sizes = cpuid(0x80000008);
  const unsigned base_family = one.a >> 8 & 0xf;
  const unsigned family = base_family == 0xf ? base_family + (one.a >> 20 & 0xff) : base_family;
  const unsigned model = (one.a >> 4 & 0xf) | (base_family >= 6 ? one.a >> 12 & 0xf0 : 0);
  const unsigned line = (one.b >> 8 & 0xff) * 8;
  const std::string common = fmt::format(
      "vendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\nstepping\t: {}\n",
      vendor(), family, model, model_name(), one.a & 0xf);
  const std::string rest = fmt::format(
      "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {}\n"
      "bugs\t\t:\nbogomips\t: 0.00\nclflush size\t: {}\ncache_alignment\t: {}\n"
      "address sizes\t: {} bits physical, {} bits virtual\npower management:\n\n",
      zero.a, flags(), line, line, sizes.a & 0xff, sizes.a >> 8 & 0xff);
  std::string out;
  for (size_t i = 0; i < cpus.size(); i++) {
    out += fmt::format(
        "processor\t: {}\n{}physical id\t: 0\nsiblings\t: {}\ncore id\t\t: {}\ncpu cores\t: {}\n"
        "apicid\t\t: {}\ninitial apicid\t: {}\n{}",
        cpus[i], common, cpus.size(), i, cpus.size(), i, i, rest);
  }
  return out;
}

}  // namespace boxrun::kernel
