//go:build !linux || !amd64

package main

func useClock(string) { panic("only on Linux and amd64 can a process have a clock of its own") }
