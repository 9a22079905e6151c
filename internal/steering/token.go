package steering

// Delegation is what wsd needs of a bpffs that delegates bpf() to a user namespace (BPF token, Linux 6.9): the mount
// options and their values, as fsconfig(2) takes them and /proc/self/mountinfo shows them. The eBPF library makes a
// token of such a bpffs by itself; in a user namespace the kernel honours CAP_BPF only with one.
func Delegation() [][2]string {
	return [][2]string{
		{"delegate_cmds", "map_create:prog_load:btf_load"},
		{"delegate_maps", "array:percpu_array:lru_hash:lpm_trie:reuseport_sockarray"},
		// The library loads a socket filter, whose attach type is the kernel's first one, to learn whether the kernel
		// takes type information. Without it the verifier would check all functions of wsd's program as one, and
		// refuse it.
		{"delegate_progs", "socket_filter:sk_reuseport"},
		{"delegate_attachs", "cgroup_inet_ingress:sk_reuseport_select_or_migrate"},
	}
}
