// Package serverstat reads what the measured server uses: CPU and memory of its process from /proc, the kernel's memory
// for TCP, and what the server says about itself on its admin port.
//
// Thread rule: functions without state; any goroutine may call them.
//
// It sees a process and a kernel of this machine only.
package serverstat
