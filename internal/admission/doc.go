// Package admission decides which part of the new clients wsd refuses while it is overloaded, so that those who are
// connected keep their service.
//
// One goroutine, the Sampler, measures every Interval: the CPU time of this process against the CPUs that it may use,
// the lag of the shards' loops, memory against its limits. Marks.Next, a pure function, makes the next state of the
// last one and the sample. A Shedder carries it out: one value for the kernel, or one atomic for the shards. So a new
// client costs no measurement: whoever decides about it reads a value that is there already.
//
// Connections that exist are never closed because of a lack of CPU time; this package does not know them.
//
// Thread rule: Start and Stop belong to one goroutine. Any goroutine may call Status.
package admission
