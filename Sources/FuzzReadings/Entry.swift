#if Fuzzing
  import Base

  /// What libFuzzer calls with each input.
  @_cdecl("LLVMFuzzerTestOneInput") public func fuzzOne(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    attack(Bytes(UnsafeBufferPointer(start: data, count: size)))
    return 0
  }
#else
  @main enum Entry {
    static func main() { print("built without the trait Fuzzing; see scripts/fuzz.sh") }
  }
#endif
