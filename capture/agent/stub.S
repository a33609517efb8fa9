/* SPDX-License-Identifier: MIT */
/* syscall(2) by name: looked at for seccomp, then jumped through with nothing of ours on the stack, for fork-like calls
 * return twice. Mappings by number are looked at, too. */
	.text
	.globl	syscall
	.type	syscall, @function
syscall:
	.cfi_startproc
	endbr64
	cmpq	$25, %rdi
	jbe	4f
	cmpq	$317, %rdi		/* __NR_seccomp: 0 and 1 set a filter, the others ask */
	jne	1f
	cmpq	$1, %rsi
	jbe	2f
1:	movq	agent_syscall_real(%rip), %rax
	testq	%rax, %rax
	jz	3f
	jmp	*%rax
2:	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	pushq	%rcx
	.cfi_adjust_cfa_offset 8
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	agent_before_seccomp
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%rcx
	.cfi_adjust_cfa_offset -8
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	jmp	1b
3:	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	pushq	%rcx
	.cfi_adjust_cfa_offset 8
	pushq	%r8
	.cfi_adjust_cfa_offset 8
	pushq	%r9
	.cfi_adjust_cfa_offset 8
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	agent_resolve
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%r9
	.cfi_adjust_cfa_offset -8
	popq	%r8
	.cfi_adjust_cfa_offset -8
	popq	%rcx
	.cfi_adjust_cfa_offset -8
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	movq	agent_syscall_real(%rip), %rax
	jmp	*%rax
4:	cmpq	$0, agent_syscall_real(%rip)
	je	1b
	cmpl	$9, %edi
	je	5f
	cmpl	$11, %edi
	je	6f
	cmpl	$25, %edi
	jne	1b
	movq	%rsi, %rdi		/* mremap */
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	movq	%r8, %rcx
	movq	%r9, %r8
	jmp	agent_mremap_by_number
5:	movq	%rsi, %rdi		/* mmap */
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	movq	%r8, %rcx
	movq	%r9, %r8
	movq	8(%rsp), %r9
	jmp	agent_mmap_by_number
6:	movq	%rsi, %rdi		/* munmap */
	movq	%rdx, %rsi
	jmp	agent_munmap_by_number
	.cfi_endproc
	.size	syscall, .-syscall

/* dlopen and dlmopen: looked at for what puts a library's calls past the hooks, then jumped through, for the loader asks who
 * called. */
	.globl	dlopen
	.type	dlopen, @function
dlopen:
	.cfi_startproc
	endbr64
	leaq	agent_dlopen_real(%rip), %r11
	testl	$8, %esi		/* RTLD_DEEPBIND */
	jnz	7f
	jmp	8f
	.cfi_endproc
	.size	dlopen, .-dlopen

	.globl	dlmopen
	.type	dlmopen, @function
dlmopen:
	.cfi_startproc
	endbr64
	leaq	agent_dlmopen_real(%rip), %r11
	testq	%rdi, %rdi		/* LM_ID_BASE */
	jnz	7f
	testl	$8, %edx
	jnz	7f
8:	movq	(%r11), %rax
	testq	%rax, %rax
	jz	9f
	jmp	*%rax
7:	leaq	agent_deep_library(%rip), %rax
	jmp	1f
9:	leaq	agent_resolve(%rip), %rax
1:	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	pushq	%r11
	.cfi_adjust_cfa_offset 8
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	*%rax
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%r11
	.cfi_adjust_cfa_offset -8
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	movq	(%r11), %rax
	jmp	*%rax
	.cfi_endproc
	.size	dlmopen, .-dlmopen

	.section .note.GNU-stack,"",@progbits
