# The smallest guest: two system calls, no libc, no stack use, no vDSO, no relocation.
  .globl _start
  .text
_start:
  mov $1, %eax                  # write(1, text, length)
  mov $1, %edi
  lea text(%rip), %rsi
  mov $length, %edx
  syscall
  cmp $length, %rax
  jne failed
  mov $231, %eax                # exit_group(42)
  mov $42, %edi
  syscall
failed:
  neg %eax                      # exit_group(errno)
  mov %eax, %edi
  mov $231, %eax
  syscall
  hlt

  .section .rodata
text:
  .ascii "hello from assembly\n"
  .set length, . - text
  .section .note.GNU-stack, "", @progbits
