// Package reload keeps values that are made from files, such as certificates and passwords, and makes them again when
// the files change.
//
// A Value compares the files' bytes, not their times: tools replace files by renaming, through symbolic links or in
// place, and a time may stand still. If the new files cannot be used, because they are missing, half written or do not
// belong together, the Value keeps the last value that could, and logs that once.
//
// Thread rule: any goroutine may use a Value. The package starts no goroutine; Watch runs in its caller's.
package reload
