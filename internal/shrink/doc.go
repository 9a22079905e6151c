// Package shrink gives memory back after a peak. Go's maps never shrink: one that has held a million entries keeps
// their memory when it is empty. So a map whose entries have become few is made anew.
//
// Nothing here is safe for concurrent use: the owner of a map calls it.
package shrink
