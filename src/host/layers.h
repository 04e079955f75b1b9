#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace boxrun::host {

// Everything that stands between a bug in one of our processes and the host, in the order in which
// it is put up. README.md says what each one gives and what is lost without it.
enum class Layer : uint8_t {
  kUserNamespace,
  kMountNamespace,
  kPidNamespace,
  kNetNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kEmptyRoot,       // the root directory is an empty read-only tmpfs
  kReadOnlyMounts,  // the kernel itself refuses writes to mounts declared read-only
  kLandlock,
  kResourceLimits,
  kNonDumpable,
  kNoCapabilities,  // none, or only those the process kind is allowed to keep
  kNoNewPrivileges,
  kSeccomp,
};
constexpr int kLayerCount = static_cast<int>(Layer::kSeccomp) + 1;

// "user namespace", "seccomp filter": as the report and doctor print it.
std::string_view layer_name(Layer layer);

// The layers in force in one process. A value; travels as a word in start messages.
class LayerSet {
 public:
  constexpr LayerSet() = default;
  constexpr LayerSet(std::initializer_list<Layer> layers) {
    for (const Layer layer : layers) add(layer);
  }
  // Bits that name no layer are dropped.
  static constexpr LayerSet from_bits(uint32_t bits) {
    LayerSet set;
    set.bits_ = bits & ((uint32_t{1} << kLayerCount) - 1);
    return set;
  }

  constexpr void add(Layer layer) { bits_ |= bit(layer); }
  constexpr void remove(Layer layer) { bits_ &= ~bit(layer); }
  constexpr bool has(Layer layer) const { return (bits_ & bit(layer)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr uint32_t bits() const { return bits_; }
  // What of `required` is not in this set.
  constexpr LayerSet missing(LayerSet required) const { return from_bits(required.bits_ & ~bits_); }
  constexpr LayerSet operator|(LayerSet other) const { return from_bits(bits_ | other.bits_); }
  constexpr bool operator==(const LayerSet&) const = default;
  // "user namespace, landlock"; "none" for the empty set.
  std::string names() const;

 private:
  static constexpr uint32_t bit(Layer layer) { return uint32_t{1} << static_cast<int>(layer); }
  uint32_t bits_ = 0;
};

constexpr LayerSet kAllNamespaces = {Layer::kUserNamespace, Layer::kMountNamespace,
                                     Layer::kPidNamespace,  Layer::kNetNamespace,
                                     Layer::kIpcNamespace,  Layer::kUtsNamespace};

}  // namespace boxrun::host
