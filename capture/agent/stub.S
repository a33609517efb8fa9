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
	.section .note.GNU-stack,"",@progbits
