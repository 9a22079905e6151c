// Package commands carries commands of the server API between machines by a Kafka topic: disconnect, subscribe,
// unsubscribe and refresh. Every node of a cluster reads all of the topic, from the moment it starts, and acts on the
// connections that it has.
//
// A command has an id, by which a node applies it once, and the name of the node that it comes from. Its age is that of
// its record. A node that has been away from Kafka finds commands that nobody expects any longer: those that are older
// than Options.AgeMax are counted and dropped.
//
// Whoever may write to the topic may do to clients what the server API can. What is read is checked like what clients
// send: a record that is not a valid command is counted and skipped.
//
// Threads: New, Start and Stop are for one goroutine, all else for any. Options.Apply is called by one goroutine, the
// reader's, and may block: reading waits for it.
package commands
