package tlsrecord

import "unsafe"

// SealUpdate has a test send a KeyUpdate that asks for one in return or not.
func (c *Conn) SealUpdate(dst []byte, request byte) []byte { return c.sealUpdate(dst, request) }

// SealRaw seals a record of any type.
func (c *Conn) SealRaw(dst []byte, typ byte, content []byte) []byte {
	dst, start := c.begin(dst)
	return c.finish(append(dst, content...), start, typ)
}

// LimitKey has the key changed after n records, or Worn report them.
func (c *Conn) LimitKey(n uint32) { c.limit = n }

// Limit returns that number.
func (c *Conn) Limit() uint32 { return c.limit }

// Size is the memory of a Conn whose ciphers rest.
const Size = unsafe.Sizeof(Conn{})

// Number returns the number of the next record to be sealed.
func (c *Conn) Number() uint64 { return c.out.number }

// Types of records, for tests.
const (
	TypeChangeCipherSpec = typeChangeCipherSpec
	TypeAlert            = typeAlert
	TypeHandshake        = typeHandshake
	TypeData             = typeData
)
