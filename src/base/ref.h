#pragma once
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "src/base/check.h"

namespace boxrun {

// Intrusive reference count. An object starts with one reference, owned by the Ref that
// `make_ref` or `adopt_ref` returns; the last Ref deletes it through its virtual destructor.
class RefCounted {  // only unref() deletes
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void ref() const { count_.fetch_add(1, std::memory_order_relaxed); }
  void unref() const {
    if (drop_ref()) const_cast<RefCounted*>(this)->last_reference_gone();
  }
  // Takes a reference unless the count has already dropped to zero: for caches that hold raw
  // pointers and remove themselves in the destructor of the object.
  bool try_ref() const {
    uint32_t n = count_.load(std::memory_order_relaxed);
    while (n != 0) {
      if (count_.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }
  // A hint only: other threads may change it at once.
  uint32_t ref_count() const { return count_.load(std::memory_order_acquire); }

 protected:
  RefCounted() = default;
  virtual ~RefCounted() = default;
  // Called when the count has dropped to zero; try_ref fails from then on. Overridden where work
  // must be done while the derived class is still whole.
  virtual void last_reference_gone() { delete this; }
  // unref without the consequences: true when that was the last reference.
  bool drop_ref() const { return count_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  mutable std::atomic<uint32_t> count_{1};
};

// Owns one reference. Null only when default-constructed or moved from.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}  // NOLINT(google-explicit-constructor)
  explicit Ref(T* shared) : p_(shared) {
    if (p_ != nullptr) p_->ref();
  }
  Ref(const Ref& other) : Ref(other.p_) {}
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  template <class U>
  requires std::convertible_to<U*, T*> Ref(const Ref<U>& other)  // NOLINT
      : Ref(other.get()) {}
  template <class U>
  requires std::convertible_to<U*, T*> Ref(Ref<U>&& other)  // NOLINT
  noexcept : p_(other.release()) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() {
    if (p_ != nullptr) p_->unref();
  }

  T* get() const { return p_; }
  T& operator*() const {
    DCHECK(p_ != nullptr);
    return *p_;
  }
  T* operator->() const {
    DCHECK(p_ != nullptr);
    return p_;
  }
  explicit operator bool() const { return p_ != nullptr; }
  template <class U>
  bool operator==(const Ref<U>& other) const {
    return p_ == other.get();
  }
  bool operator==(std::nullptr_t) const { return p_ == nullptr; }

  // Gives up the reference without dropping it.
  T* release() { return std::exchange(p_, nullptr); }
  static Ref adopt(T* owned) {
    Ref r;
    r.p_ = owned;
    return r;
  }

 private:
  T* p_ = nullptr;
};

template <class T>
Ref<T> adopt_ref(T* owned) {
  return Ref<T>::adopt(owned);
}

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
  return Ref<T>::adopt(new T(std::forward<Args>(args)...));
}

// Casts down where the caller knows the type by other means.
template <class T, class U>
Ref<T> static_ref_cast(Ref<U> r) {
  return Ref<T>::adopt(static_cast<T*>(r.release()));
}

}  // namespace boxrun
