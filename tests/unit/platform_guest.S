# Guest code of the conformance suite: position-independent, copied into the memory file.
        .section .rodata.platform_guest, "a", @progbits
        .balign 4096
        .globl  guest_text
guest_text:

# One system call with the registers as they are, for ever.
        .globl  guest_syscall
guest_syscall:
        syscall
        .globl  guest_syscall_done
guest_syscall_done:
        jmp     guest_syscall

# Call sites of the kinds that CallPatches knows, for ever.
        .globl  guest_site
guest_site:
        mov     $1010, %eax
        syscall
        .globl  guest_site_done
guest_site_done:
        jmp     guest_site

        .globl  guest_site_six
guest_site_six:
        mov     %rbx, %rax
        mov     8(%rsp), %r9
        syscall
        .globl  guest_site_six_done
guest_site_six_done:
        jmp     guest_site_six

        .globl  guest_site_zero
guest_site_zero:
        call    zero
        jmp     guest_site_zero
        .balign 16
zero:
        xor     %eax, %eax
        syscall
        .globl  guest_site_zero_done
guest_site_zero_done:
        cmp     $-4096, %rax
        ja      1f
        ret
        .byte   0x0f, 0x1f, 0x80, 0, 0, 0, 0    # nopl 0x0(%rax)
1:      ud2

# A call at a site, one instruction at a time.
        .globl  guest_site_steps
guest_site_steps:
        pushfq
        orl     $0x100, (%rsp)
        popfq
        mov     $1014, %eax
        syscall
        .globl  guest_site_steps_done
guest_site_steps_done:
        pushfq
        andl    $~0x100, (%rsp)
        popfq
        jmp     guest_site_steps

# Says in the slot at rbx that it stopped at a patched call 57 (fork), which it did not, and goes on.
        .globl  guest_forge_call
guest_forge_call:
        lea     guest_forge_call(%rip), %rax
        mov     %rax, 24(%rbx)
        movq    $57, 64(%rbx)
        movl    $0x100, 4(%rbx)
        movl    $2, (%rbx)
1:      jmp     1b

# Not a site: the number is a part of a longer instruction.
        .globl  guest_no_site_done
        .byte   0x48, 0xb8, 0xf2, 0x03, 0x00, 0x00, 0x0f, 0x05
guest_no_site_done:
        .byte   0, 0
        ud2

# As guest_site, with the flags that a system call keeps: all of CF PF ZF SF OF, then none, then a
# call 1011 with what was seen after each: rdi, rsi.
        .globl  guest_site_flags
guest_site_flags:
        mov     $0x8d5, %edi            # OF SF ZF AF PF CF
        call    call_with_flags
        mov     %rdx, %r12
        xor     %edi, %edi
        call    call_with_flags
        mov     %r12, %rdi
        mov     %rdx, %rsi
        mov     $1011, %eax
        syscall
        jmp     guest_site_flags
call_with_flags:
        pushfq
        pop     %rax
        and     $~0x8d5, %rax
        or      %rdi, %rax
        push    %rax
        popfq
        mov     $1012, %eax
        syscall
        .globl  guest_site_flags_done
guest_site_flags_done:
        pushfq
        pop     %rdx
        and     $0x8d5, %edx
        ret

# Loads from rbx into rax, then a system call number 1000.
        .globl  guest_load
guest_load:
        mov     (%rbx), %rax
        mov     %rax, %rdi
        mov     $1000, %eax
        syscall
        jmp     guest_load

# Stores rcx to rbx, then a system call number 1001.
        .globl  guest_store
guest_store:
        mov     %rcx, (%rbx)
        mov     $1001, %eax
        syscall
        jmp     guest_store

        .globl  guest_jump
guest_jump:
        jmp     *%rbx

        .globl  guest_spin
guest_spin:
        jmp     guest_spin

# Counts in (rbx) while it can: a page that the test takes away.
        .globl  guest_hammer
guest_hammer:
        incq    (%rbx)
        jmp     guest_hammer
        .globl  guest_hammer_end
guest_hammer_end:

        .globl  guest_int3
guest_int3:
        int3
        .globl  guest_int3_done
guest_int3_done:
        ud2

        .globl  guest_undefined
guest_undefined:
        ud2

        .globl  guest_divide
guest_divide:
        xor     %ecx, %ecx
        xor     %edx, %edx
        mov     $1, %eax
        div     %ecx

        .globl  guest_privileged
guest_privileged:
        hlt

# Sets the trap flag; the trap comes after the nop.
        .globl  guest_single_step
guest_single_step:
        sub     $128, %rsp
        pushfq
        orl     $0x100, (%rsp)
        popfq
        nop
        .globl  guest_single_step_done
guest_single_step_done:
        ud2

# Sets the alignment check flag and loads misaligned from rbx + 1.
        .globl  guest_misaligned
guest_misaligned:
        pushfq
        orl     $0x40000, (%rsp)
        popfq
        mov     1(%rbx), %rax
        ud2

        .globl  guest_int80
guest_int80:
        mov     $20, %eax
        int     $0x80
        mov     %rax, %rdi
        mov     $1002, %eax
        syscall
        ud2

        .globl  guest_x32
guest_x32:
        mov     $0x40000027, %eax
        syscall
        mov     %rax, %rdi
        mov     $1002, %eax
        syscall
        ud2

# Calls the vsyscall entry in rbx, then a system call number 1002 with its result.
        .globl  guest_vsyscall
guest_vsyscall:
        call    *%rbx
        .globl  guest_vsyscall_done
guest_vsyscall_done:
        mov     %rax, %rdi
        mov     $1002, %eax
        syscall
        ud2

# Puts rbx into ymm15 and fs and gs bases apart, makes a system call, then reports them.
        .globl  guest_vector
guest_vector:
        vmovq   %rbx, %xmm15
        vpermq  $0, %ymm15, %ymm15
        mov     $1003, %eax
        syscall
        vextracti128 $1, %ymm15, %xmm14
        vmovq   %xmm14, %rdi
        mov     %fs:0, %rsi
        mov     %gs:0, %rdx
        mov     $1004, %eax
        syscall
        jmp     guest_vector

# The same for zmm31.
        .globl  guest_vector512
guest_vector512:
        vpbroadcastq %rbx, %zmm31
        mov     $1003, %eax
        syscall
        vextracti64x4 $1, %zmm31, %ymm0
        vmovq   %xmm0, %rdi
        mov     $1004, %eax
        syscall
        jmp     guest_vector512

# What a hostile program would try: system calls that would change the host if they reached it,
# rbx rounds of getpid, kill(-1, SIGKILL) and close(0..2), ending in 1005.
        .globl  guest_hostile_calls
guest_hostile_calls:
        mov     $39, %eax
        syscall
        mov     $62, %eax
        mov     $-1, %rdi
        mov     $9, %esi
        syscall
        mov     $3, %eax
        xor     %edi, %edi
        syscall
        mov     $3, %eax
        mov     $1, %edi
        syscall
        mov     $11, %eax
        mov     %r12, %rdi
        mov     $4096, %esi
        syscall
        dec     %rbx
        jnz     guest_hostile_calls
        mov     $1005, %eax
        syscall
        ud2

        .globl  guest_text_end
guest_text_end:
        .section .note.GNU-stack, "", @progbits
