# All code of ours that stub processes contain. Copied to the stub area at start-up, so it is
# position-independent; it uses no stack and no memory but what its registers point to, so a guest
# thread that shares the address space has nothing to aim at. A guest may jump anywhere in here:
# its system calls are then emulated like all others, because the tracer resumes guest threads
# with PTRACE_SYSEMU only.
#
# Parameters are registers. `int3` hands a stopped thread back to its tracer.

        .set    SYS_close, 3
        .set    SYS_munmap, 11
        .set    SYS_pause, 34
        .set    SYS_sendto, 44
        .set    SYS_recvmsg, 47
        .set    SYS_clone, 56
        .set    SYS_getppid, 110
        .set    SYS_prctl, 157
        .set    SYS_exit_group, 231
        .set    PR_SET_PDEATHSIG, 1
        .set    SIGKILL, 9
        .set    MSG_NOSIGNAL, 0x4000
        .set    MSG_CMSG_CLOEXEC, 0x40000000
        .set    EMFILE, 24

        .section .rodata.boxrun_stub, "a", @progbits
        .balign 4096
        .globl  boxrun_stub_text
boxrun_stub_text:

# One system call: rax, rdi, rsi, rdx, r10, r8, r9 as the kernel takes them. Result in rax.
        .globl  boxrun_stub_call
boxrun_stub_call:
        syscall
        .globl  boxrun_stub_call_done
boxrun_stub_call_done:
        int3

# rbp system calls from the list at rbx (struct StubCall), until one fails. Afterwards rbp counts
# those that were not done, the failed one included, and rax is the last result.
        .globl  boxrun_stub_list
boxrun_stub_list:
        test    %rbp, %rbp
        jz      boxrun_stub_list_done
        mov     (%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        cmp     $-4095, %rax
        jae     boxrun_stub_list_done
        add     $56, %rbx
        dec     %rbp
        jmp     boxrun_stub_list
        .globl  boxrun_stub_list_done
boxrun_stub_list_done:
        int3

# clone(2), arguments as for boxrun_stub_call. The child is not traced: it must not trap. r12 is
# the Sentry's process id for a new process, 0 for a new thread.
        .globl  boxrun_stub_clone
boxrun_stub_clone:
        syscall
        test    %rax, %rax
        jz      child
        .globl  boxrun_stub_clone_done
boxrun_stub_clone_done:
        int3

child:
        test    %r12, %r12
        jz      boxrun_stub_park
new_process:
        mov     $SYS_prctl, %eax
        mov     $PR_SET_PDEATHSIG, %edi
        mov     $SIGKILL, %esi
        syscall
        mov     $SYS_getppid, %eax      # the Sentry may have died before the prctl
        syscall
        cmp     %r12, %rax
        jne     die
        .globl  boxrun_stub_park
boxrun_stub_park:
        mov     $SYS_pause, %eax
        syscall
        jmp     boxrun_stub_park

# The seed: unmaps everything of the Sentry it was forked from, then serves requests.
#   rdi, rsi  address and size of what is below the stub area; r8, r9 of what is above
#   rbx msghdr   rbp request {u32 what, u32 argument}   r13 where recvmsg puts a descriptor
#   r14 reply (u64)   r12 the Sentry's process id   r15 the seed's own writable page
        .globl  boxrun_stub_seed
boxrun_stub_seed:
        mov     $SYS_munmap, %eax
        syscall
        mov     $SYS_munmap, %eax
        mov     %r8, %rdi
        mov     %r9, %rsi
        syscall
serve:
        movl    $-EMFILE, (%r13)        # stays when the descriptor table is full
        movq    $24, 40(%rbx)           # msg_controllen: room for one descriptor
        mov     $SYS_recvmsg, %eax
        xor     %edi, %edi
        mov     %rbx, %rsi
        mov     $MSG_CMSG_CLOEXEC, %edx
        syscall
        cmp     $8, %rax                # 0: the Sentry is gone
        jne     die
        mov     (%rbp), %ecx
        xor     %eax, %eax
        cmp     $1, %ecx
        je      receive
        cmp     $2, %ecx
        je      discard
        cmp     $3, %ecx
        je      fork
        cmp     $4, %ecx
        je      fork
reply:
        mov     %rax, (%r14)
        mov     $SYS_sendto, %eax
        xor     %edi, %edi
        mov     %r14, %rsi
        mov     $8, %edx
        mov     $MSG_NOSIGNAL, %r10d
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        syscall
        jmp     serve
receive:
        movslq  (%r13), %rax
        jmp     reply
discard:
        mov     $SYS_close, %eax
        mov     4(%rbp), %edi
        syscall
        jmp     reply
fork:
        mov     $SYS_clone, %eax
        mov     $0x8400, %edi           # kCloneProcess
        xor     %esi, %esi
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        syscall
        test    %rax, %rax
        jnz     reply
        mov     (%rbp), %ebx            # kSeedFork or kSeedForkMapper
        mov     4(%rbp), %r9d
        shl     $12, %r9
        mov     $SYS_munmap, %eax
        mov     %r15, %rdi
        mov     $4096, %esi
        syscall
        cmp     $4, %ebx
        jne     new_process
        lea     boxrun_stub_text+3*4096(%rip), %rax
        jmp     *%rax                   # boxrun_systrap_text: r9 page, r12 the Sentry

die:
        mov     $SYS_exit_group, %eax
        xor     %edi, %edi
        syscall
        hlt

        .globl  boxrun_stub_text_end
boxrun_stub_text_end:
        .balign 4096

        .section .note.GNU-stack, "", @progbits
