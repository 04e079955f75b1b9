// Extended attributes of the user namespace.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tests/guest/guest_test.h"

namespace {

// A file on a filesystem that stores user attributes; the case is skipped elsewhere.
void make_file_with_attributes() {
  REQUIRE(guest::write_file("file", ""));
  if (setxattr("file", "user.first", "value", 5, 0) == -1 && errno == EOPNOTSUPP) {
    guest::skip("no user attributes on this filesystem");
  }
}

}  // namespace

CASE(set_get_list_remove) {
  make_file_with_attributes();
  char value[16] = {};
  CHECK_EQ(getxattr("file", "user.first", value, sizeof value), 5);
  CHECK_EQ(std::string(value), "value");
  CHECK_EQ(getxattr("file", "user.first", nullptr, 0), 5);
  CHECK_ERRNO(getxattr("file", "user.first", value, 2), ERANGE);
  CHECK_ERRNO(getxattr("file", "user.missing", value, sizeof value), ENODATA);
  CHECK_OK(setxattr("file", "user.second", "", 0, 0));
  char names[256] = {};
  ssize_t length = listxattr("file", names, sizeof names);
  CHECK_EQ(length, listxattr("file", nullptr, 0));
  std::string all(names, static_cast<size_t>(length > 0 ? length : 0));
  CHECK(all.find(std::string("user.first\0", 11)) != std::string::npos);
  CHECK(all.find(std::string("user.second\0", 12)) != std::string::npos);
  CHECK_ERRNO(listxattr("file", names, 3), ERANGE);
  CHECK_OK(removexattr("file", "user.first"));
  CHECK_ERRNO(removexattr("file", "user.first"), ENODATA);
  CHECK_ERRNO(getxattr("missing", "user.first", value, sizeof value), ENOENT);
}

CASE(create_and_replace) {
  make_file_with_attributes();
  CHECK_ERRNO(setxattr("file", "user.first", "x", 1, XATTR_CREATE), EEXIST);
  CHECK_ERRNO(setxattr("file", "user.new", "x", 1, XATTR_REPLACE), ENODATA);
  CHECK_OK(setxattr("file", "user.first", "x", 1, XATTR_REPLACE));
  CHECK_ERRNO(setxattr("file", "user.first", "x", 1, 77), EINVAL);
}

CASE(by_descriptor_and_by_link) {
  make_file_with_attributes();
  int fd = open("file", O_RDWR);
  char value[16] = {};
  CHECK_EQ(fgetxattr(fd, "user.first", value, sizeof value), 5);
  CHECK_OK(fsetxattr(fd, "user.fd", "1", 1, 0));
  CHECK(flistxattr(fd, value, 0) > 0);
  CHECK_OK(fremovexattr(fd, "user.fd"));
  CHECK_ERRNO(fgetxattr(999, "user.first", value, 1), EBADF);
  REQUIRE(symlink("file", "link") == 0);
  CHECK_EQ(getxattr("link", "user.first", value, sizeof value), 5);
  CHECK_ERRNO(lgetxattr("link", "user.first", value, sizeof value), ENODATA);
  CHECK_ERRNO(lsetxattr("link", "user.first", "x", 1, 0),
              EPERM);  // user attributes are for files and directories
  CHECK_ERRNO(lremovexattr("link", "user.first"), EPERM);
  CHECK(llistxattr("link", value, 0) >= 0);
}

CASE(names_and_sizes) {
  make_file_with_attributes();
  CHECK_ERRNO(setxattr("file", "", "x", 1, 0), ERANGE);
  CHECK_ERRNO(setxattr("file", ("user." + std::string(300, 'n')).c_str(), "x", 1, 0), ERANGE);
  CHECK_ERRNO(setxattr("file", "nonsense.name", "x", 1, 0), EOPNOTSUPP);
  CHECK_ERRNO(setxattr("file", "user.big", std::string(70000, 'x').data(), 70000, 0), E2BIG);
}
