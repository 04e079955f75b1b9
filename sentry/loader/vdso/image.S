# The finished vDSO as data of the Sentry. BOXRUN_VDSO_FILE is set by CMakeLists.txt.
    .section .rodata, "a"
    .balign 4096
    .globl boxrun_vdso_begin, boxrun_vdso_end
boxrun_vdso_begin:
    .incbin BOXRUN_VDSO_FILE
boxrun_vdso_end:
    .section .note.GNU-stack, "", @progbits
