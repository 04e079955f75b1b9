# The code of the systrap platform in stub processes: the mapper, the start of a guest thread, and
# the signal handler through which a guest thread hands itself to the Sentry. Copied to the stub
# area, so it is position-independent. It uses general registers only.
#
# A guest thread may jump anywhere in here and may write its slot. What it gains are the calls that
# its own filter leaves to it: futex on slots, sched_yield, rt_sigreturn, exit, the mask of guest
# threads. The mapper uses no memory but pages that guest threads can only read.

        .set    SYS_mmap, 9
        .set    SYS_munmap, 11
        .set    SYS_write, 1
        .set    SYS_rt_sigprocmask, 14
        .set    SYS_rt_sigreturn, 15
        .set    SYS_clone, 56
        .set    SYS_sched_yield, 24
        .set    SYS_exit, 60
        .set    SYS_getppid, 110
        .set    SYS_sigaltstack, 131
        .set    SYS_prctl, 157
        .set    SYS_futex, 202
        .set    SYS_set_tid_address, 218
        .set    SYS_exit_group, 231
        .set    SYS_seccomp, 317
        .set    PR_SET_PDEATHSIG, 1
        .set    PR_SET_SYSCALL_USER_DISPATCH, 59
        .set    SIGKILL, 9
        .set    SIG_SETMASK, 2
        .set    FUTEX_WAIT, 0
        .set    FUTEX_WAKE, 1
        .set    CLONE_VM, 0x100
        .set    SIGTRAP, 5
        .set    DOORBELL, 16

        # MapperPage
        .set    PAGE, boxrun_systrap_text - 2*4096
        .set    M_SEQUENCE, 0
        .set    M_COUNT, 4
        .set    M_EVENT_FD, 8
        .set    M_CALLS, 16
        # StubConstants
        .set    CONSTANTS, boxrun_systrap_text + 4096
        .set    C_DONE, 768
        .set    C_FAILED, 776
        .set    C_SLOTS, 784
        .set    C_SLOTS_SIZE, 792
        .set    C_GUEST_MASK, 800
        .set    C_THREAD_FILTER, 808
        # ThreadSlot
        .set    SLOT_SIZE, 65536
        .set    S_STATE, 0
        .set    S_SIGNAL, 4
        .set    S_FRAME, 8
        .set    S_FS_BASE, 128
        .set    S_GS_BASE, 136
        .set    S_SET_BASES, 32
        .set    S_NOTED, 36
        .set    S_SENTRY_SLEEPS, 40
        .set    S_STUB_SLEEPS, 44
        .set    S_LOOKS, 48
        .set    S_GIVE_ALL, 52
        .set    S_RESULT, 56
        .set    S_NUMBER, 64
        .set    S_ARGS, 72
        .set    S_IP, 24
        .set    S_SP, 16
        .set    S_RBX, 144
        .set    S_FLAGS, 152
        .set    S_STACK, 160
        .set    RUNNING, 1
        .set    STOPPED, 2
        .set    EXIT, 3
        .set    CALL_STOP, 0x100
        # struct ucontext of the host: signal_frame.cpp
        .set    U_R8, 40
        .set    U_RBX, 128
        .set    U_RIP, 168
        .set    U_EFLAGS, 176
        .set    U_FPSTATE, 224

        .section .rodata.boxrun_systrap, "a", @progbits
        .balign 4096
        .globl  boxrun_systrap_text
boxrun_systrap_text:

# A new stub process begins here. r9: where its mapper page is in the control file; r12: the
# Sentry's process id. Until the page is its own it reads no memory.
new_process:
        mov     %r9, %r13
        mov     $SYS_prctl, %eax
        mov     $PR_SET_PDEATHSIG, %edi
        mov     $SIGKILL, %esi
        syscall
        mov     $SYS_getppid, %eax      # the Sentry may have died before the prctl
        syscall
        cmp     %r12, %rax
        jne     die
        mov     $SYS_munmap, %eax       # the slots of the process it was forked from
        mov     CONSTANTS+C_SLOTS(%rip), %rdi
        mov     CONSTANTS+C_SLOTS_SIZE(%rip), %rsi
        syscall
        mov     $SYS_mmap, %eax
        lea     PAGE(%rip), %rbx
        mov     %rbx, %rdi
        mov     $4096, %esi
        mov     $1, %edx                # PROT_READ
        mov     $0x4011, %r10d          # kGuestMapFlags
        mov     $2, %r8d                # kStubControlFd
        mov     %r13, %r9
        syscall
        cmp     %rbx, %rax
        jne     die
        xor     %r15d, %r15d            # the number of the last request that was served

# The mapper: r12 the Sentry, r15 last request, rbx its page, r14 call, rbp calls to do.
next_request:
        mov     M_SEQUENCE(%rbx), %eax
        cmp     %r15d, %eax
        jne     serve
        mov     $SYS_futex, %eax
        mov     %rbx, %rdi
        mov     $FUTEX_WAIT, %esi
        mov     %r15d, %edx
        xor     %r10d, %r10d
        syscall
        jmp     next_request
serve:
        mov     %eax, %r15d
        mov     M_COUNT(%rbx), %ebp
        lea     M_CALLS(%rbx), %r14
        xor     %r13d, %r13d            # the answer's lower bits
next_call:
        test    %ebp, %ebp
        jz      done
        mov     (%r14), %rax
        mov     %rax, %r13              # the child of a clone must not look at its parent's page again
        mov     8(%r14), %rdi
        mov     16(%r14), %rsi
        mov     24(%r14), %rdx
        mov     32(%r14), %r10
        mov     40(%r14), %r8
        mov     48(%r14), %r9
        syscall
        cmp     $-4095, %rax
        jae     failed
        cmp     $SYS_clone, %r13
        mov     $0, %r13d
        jne     1f
        test    %rax, %rax
        jz      child
        mov     %rax, %r13
1:      add     $56, %r14
        dec     %ebp
        jmp     next_call
failed:
        neg     %rax
        mov     M_COUNT(%rbx), %r13d
        sub     %ebp, %r13d
        shl     $12, %r13
        or      %rax, %r13
        lea     CONSTANTS+C_FAILED(%rip), %rbp
        jmp     answer
done:
        lea     CONSTANTS+C_DONE(%rip), %rbp
# Writes r13 digit by digit, then what rbp points to.
answer:
        lea     CONSTANTS(%rip), %r14
1:      mov     %r13d, %ecx
        and     $15, %ecx
        jz      2f
        lea     (%r14,%rcx,8), %rsi
        mov     $SYS_write, %eax
        mov     M_EVENT_FD(%rbx), %edi
        mov     $8, %edx
        syscall
2:      add     $128, %r14
        shr     $4, %r13d
        jnz     1b
        mov     $SYS_write, %eax
        mov     M_EVENT_FD(%rbx), %edi
        mov     %rbp, %rsi
        mov     $8, %edx
        syscall
        jmp     next_request

# The child of a clone: rdi its flags; r9 its slot, or its mapper page in the control file.
child:
        test    $CLONE_VM, %edi
        jz      new_process
        mov     %r9, %rbx
        wrgsbase %rbx                   # how a patched call site finds the slot
        mov     $SYS_sigaltstack, %eax
        lea     S_STACK(%rbx), %rdi
        xor     %esi, %esi
        syscall
        test    %rax, %rax
        jnz     end_thread
        mov     $SYS_set_tid_address, %eax
        lea     S_STATE(%rbx), %rdi
        syscall
        # Fails before Linux 5.11: then the filter alone traps guest code.
        mov     $SYS_prctl, %eax
        mov     $PR_SET_SYSCALL_USER_DISPATCH, %edi
        mov     $1, %esi                # PR_SYS_DISPATCH_ON
        lea     boxrun_systrap_text(%rip), %rdx
        mov     $4096, %r10d
        xor     %r8d, %r8d
        syscall
        mov     $SYS_seccomp, %eax
        mov     $1, %edi                # SECCOMP_SET_MODE_FILTER
        mov     $4, %esi                # SECCOMP_FILTER_FLAG_SPEC_ALLOW
        lea     CONSTANTS+C_THREAD_FILTER(%rip), %rdx
        syscall
        test    %rax, %rax
        jnz     end_thread
        # Last: until here no signal is delivered, whose frame others could write to.
        mov     $SYS_rt_sigprocmask, %eax
        mov     $SIG_SETMASK, %edi
        lea     CONSTANTS+C_GUEST_MASK(%rip), %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        test    %rax, %rax
        jnz     end_thread
        # The first stop: no guest code has run, the Sentry gives all registers. The number is none
        # that a filter allows.
        xor     %esp, %esp
        mov     $1023, %eax
        syscall
        jmp     end_thread

# Every signal of a guest thread: rdi signal, rdx ucontext. The stack is the alternate one, inside
# the slot.
        .globl  boxrun_systrap_handler
boxrun_systrap_handler:
        mov     %rsp, %rbx
        and     $-SLOT_SIZE, %rbx
        mov     U_RIP(%rdx), %rax
        lea     boxrun_systrap_text(%rip), %rcx
        sub     %rcx, %rax
        cmp     $DOORBELL, %edi
        je      doorbell
        # A guest that steps through its code does not step through a patched call: what the slot has
        # of that would be overwritten.
        cmp     $SIGTRAP, %edi
        jne     stop
        cmp     $boxrun_systrap_all - boxrun_systrap_text, %rax
        jae     stop
        cmp     $boxrun_systrap_call - boxrun_systrap_text, %rax
        jae     return
        cmp     $publish - boxrun_systrap_text, %rax
        jb      stop
        cmpl    $CALL_STOP, S_SIGNAL(%rbx)
        je      return
        jmp     stop

# Where did it ring? In guest code that is a stop like any other.
doorbell:
        cmp     $4096, %rax
        jae     stop
        # In the last instructions before guest code goes on: as if it had rung before them.
        cmp     $leaving - boxrun_systrap_text, %eax
        jb      1f
        cmp     $left - boxrun_systrap_text, %eax
        jb      2f
        cmp     $call_leaving - boxrun_systrap_text, %eax
        jb      1f
        cmp     $call_left - boxrun_systrap_text, %eax
        jae     1f
        lea     call_leaving(%rip), %rax
        mov     %rax, U_RIP(%rdx)
        mov     %rbx, U_RBX(%rdx)
        jmp     note
2:      mov     S_FRAME(%rbx), %rdx
        lea     -8(%rdx), %rsp
        jmp     stop
        # Who waits for its turn with another slot than its own jumped there.
1:      cmp     $publish - boxrun_systrap_text, %eax
        jb      note
        cmp     $turn - boxrun_systrap_text, %eax
        jae     note
        cmp     U_RBX(%rdx), %rbx
        jne     stop
        # Anywhere else: to be looked at before guest code goes on.
note:   movl    $1, S_NOTED(%rbx)
return: add     $8, %rsp                # as if the handler had returned
        .globl  boxrun_systrap_restorer
boxrun_systrap_restorer:
        mov     $SYS_rt_sigreturn, %eax
        syscall

stop:
        pushq   $0x202                  # the guest's NT would make iretq fail, its AC our accesses
        popfq
        mov     %edi, S_SIGNAL(%rbx)
        mov     %rdx, S_FRAME(%rbx)
        rdfsbase %rax
        mov     %rax, S_FS_BASE(%rbx)
        rdgsbase %rax
        mov     %rax, S_GS_BASE(%rbx)
# Hands the thread over and waits for its turn, without a stack. rbx: the slot.
publish:
        mov     $STOPPED, %eax
        xchg    %eax, S_STATE(%rbx)
        cmpl    $0, S_SENTRY_SLEEPS(%rbx)
        je      wait
        mov     $SYS_futex, %eax
        mov     %rbx, %rdi              # S_STATE
        mov     $FUTEX_WAKE, %esi
        mov     $1, %edx
        syscall
wait:
        mov     S_LOOKS(%rbx), %ecx
        test    %ecx, %ecx
        jz      sleep
        js      yield
1:      mov     S_STATE(%rbx), %eax
        cmp     $STOPPED, %eax
        jne     turn
        pause
        dec     %ecx
        jnz     1b
        jmp     sleep
yield:
        movzbl  %cl, %edx
1:      mov     $SYS_sched_yield, %eax
        syscall
        mov     S_STATE(%rbx), %eax
        cmp     $STOPPED, %eax
        jne     turn
        dec     %edx
        jnz     1b
sleep:
        mov     $1, %eax
        xchg    %eax, S_STUB_SLEEPS(%rbx)
1:      mov     S_STATE(%rbx), %eax
        cmp     $STOPPED, %eax
        jne     awake
        mov     $SYS_futex, %eax
        mov     %rbx, %rdi
        mov     $FUTEX_WAIT, %esi
        mov     $STOPPED, %edx
        xor     %r10d, %r10d
        syscall
        jmp     1b
awake:
        movl    $0, S_STUB_SLEEPS(%rbx)
turn:
        cmp     $RUNNING, %eax
        jne     end_thread
        cmpl    $CALL_STOP, S_SIGNAL(%rbx)
        je      call_turn
        mov     S_FRAME(%rbx), %rdx
        cmpl    $0, S_SET_BASES(%rbx)
        je      leaving
        movl    $0, S_SET_BASES(%rbx)
        mov     S_FS_BASE(%rbx), %rax
        wrfsbase %rax
        mov     S_GS_BASE(%rbx), %rax
        wrgsbase %rax
leaving:
        cmpl    $0, S_NOTED(%rbx)
        jne     noted
        mov     %rdx, %rdi
        mov     U_FPSTATE(%rdi), %rsi
        mov     $-1, %eax
        mov     $-1, %edx
        xrstor64 (%rsi)
        pushq   $0x2b                   # __USER_DS
        pushq   160(%rdi)               # rsp
        pushq   U_EFLAGS(%rdi)
        pushq   $0x33                   # __USER_CS
        pushq   U_RIP(%rdi)
        mov     U_R8(%rdi), %r8
        mov     48(%rdi), %r9
        mov     56(%rdi), %r10
        mov     64(%rdi), %r11
        mov     72(%rdi), %r12
        mov     80(%rdi), %r13
        mov     88(%rdi), %r14
        mov     96(%rdi), %r15
        mov     112(%rdi), %rsi
        mov     120(%rdi), %rbp
        mov     128(%rdi), %rbx
        mov     136(%rdi), %rdx
        mov     144(%rdi), %rax
        mov     152(%rdi), %rcx
        mov     104(%rdi), %rdi
        iretq
left:
noted:
        movl    $0, S_NOTED(%rbx)
        mov     $DOORBELL, %edi
        jmp     stop

# A patched call site comes here, by way of a trampoline (call_patches.h): rcx points to the return
# address, gs to the slot, r11 is free. rax keeps the flags, since a system call does not change any.
        .globl  boxrun_systrap_call
boxrun_systrap_call:
        rdgsbase %r11
        mov     %rax, S_NUMBER(%r11)
        lahf
        seto    %al
        mov     %rbx, S_RBX(%r11)
        mov     %r11, %rbx
        mov     %rax, S_FLAGS(%rbx)
        mov     (%rcx), %rcx
        mov     %rcx, S_IP(%rbx)
        mov     %rdi, S_ARGS(%rbx)
        mov     %rsi, S_ARGS+8(%rbx)
        mov     %rdx, S_ARGS+16(%rbx)
        mov     %r10, S_ARGS+24(%rbx)
        mov     %r8, S_ARGS+32(%rbx)
        mov     %r9, S_ARGS+40(%rbx)
        mov     %rsp, S_SP(%rbx)
        movl    $CALL_STOP, S_SIGNAL(%rbx)
        jmp     publish

call_turn:
        mov     S_ARGS(%rbx), %rdi
        mov     S_ARGS+8(%rbx), %rsi
        mov     S_ARGS+16(%rbx), %rdx
        mov     S_ARGS+24(%rbx), %r10
        cmpl    $0, S_GIVE_ALL(%rbx)
        jne     give_all
call_leaving:
        cmpl    $0, S_NOTED(%rbx)
        jne     call_noted
        mov     S_FLAGS(%rbx), %rax
        add     $127, %al               # overflows if the flag was set
        sahf
        mov     S_RESULT(%rbx), %rax
        mov     S_IP(%rbx), %rcx
        mov     S_RBX(%rbx), %rbx
        jmp     *%rcx
call_left:
call_noted:
        movl    $0, S_NOTED(%rbx)
        mov     S_RESULT(%rbx), %r11
        jmp     1f
give_all:
        movl    $0, S_GIVE_ALL(%rbx)
        mov     S_NUMBER(%rbx), %r11
1:      mov     S_FLAGS(%rbx), %rax
        add     $127, %al
        sahf
        mov     %r11, %rax
        mov     S_IP(%rbx), %rcx
        mov     S_RBX(%rbx), %rbx
        int3
# Where the host says that it stopped, with all registers of the guest but rip, which rcx has.
        .globl  boxrun_systrap_all
boxrun_systrap_all:

end_thread:
        mov     $SYS_exit, %eax
        xor     %edi, %edi
        syscall
        hlt

die:
        mov     $SYS_exit_group, %eax
        xor     %edi, %edi
        syscall
        hlt

        .globl  boxrun_systrap_text_end
boxrun_systrap_text_end:
        .balign 4096

        .section .note.GNU-stack, "", @progbits
