import Base
import Testing

@testable import ObjectModel

@Suite struct ScalarTests {
  @Test func aSumFromZeroIsWrittenAsWhatIsAdded() throws {
    let (zero, half) = (Quantity(units: 0), try #require(Quantity("512Mi")))
    #expect("\(zero + half + half)" == "1Gi" && "\(half + zero)" == "512Mi")
    #expect("\(zero + zero)" == "0")
  }

  @Test(arguments: [
    ("0", "0"), ("100m", "100m"), ("0.1", "100m"), ("1.5", "1500m"), ("1000m", "1"), ("2", "2"), ("2000", "2k"),
    ("64Mi", "64Mi"), ("1024Ki", "1Mi"), ("1.5Gi", "1536Mi"), ("1e3", "1e3"), ("1000e0", "1e3"), ("9E", "9E"),
    ("12E", "9223372036854775807"),
    ("0.5Ki", "512"), ("-1m", "-1m"), ("+3", "3"), ("1n", "1n"), ("0.1n", "1n"), ("128974848", "128974848"),
    ("1e-3", "1e-3"), (".5", "500m"), ("5.", "5"), ("1E3", "1e3"),
  ])
  func quantityTexts(_ text: String, _ canonical: String) {
    #expect(Quantity(text)?.description == canonical)
  }

  @Test(arguments: ["", "m", "1 ", "1x", "1KI", "1ki", "--1", "1.2.3", "1e", "0x1", "1MiB"])
  func quantityRefuses(_ text: String) { #expect(Quantity(text) == nil) }

  @Test func quantityValues() throws {
    let cpu = try #require(Quantity("1500m"))
    #expect(cpu.milli == 1500 && cpu.units == 2)
    #expect(try #require(Quantity("1Gi")) > #require(Quantity("1G")))
    #expect(Quantity("1") == Quantity("1000m"))
    #expect(try (#require(Quantity("1Gi")) + #require(Quantity("512Mi"))).description == "1536Mi")
    #expect(Quantity(.int(2))?.milli == 2000 && Quantity(.double(0.5))?.milli == 500)
    #expect(Quantity("9999999999999999999E")?.units == .max)
  }

  @Test(
    arguments: [
      (0, "1970-01-01T00:00:00Z"), (1_000_000_000, "2001-09-09T01:46:40Z"), (951_782_400, "2000-02-29T00:00:00Z"),
      (-1, "1969-12-31T23:59:59Z"), (4_107_542_399, "2100-02-28T23:59:59Z"), (1_795_410_743, "2026-11-23T05:12:23Z"),
    ] as [(Int64, String)])
  func timestamps(_ seconds: Int64, _ text: String) {
    #expect(Timestamp.format(WallTime(seconds: seconds)) == text)
    #expect(Timestamp.parse(text) == WallTime(seconds: seconds))
  }

  @Test func timestampForms() {
    let time = WallTime(nanoseconds: 1_000_000_000_123_456_789)
    #expect(Timestamp.formatMicros(time) == "2001-09-09T01:46:40.123456Z")
    #expect(Timestamp.parse("2001-09-09T03:46:40.123456789+02:00") == time)
    for bad in [
      "", "2001-09-09", "2001-13-09T01:46:40Z", "2001-02-29T01:46:40Z", "2001-09-09T01:46:40", "2001-09-09T24:00:00Z",
      "2001-09-09T01:46:40.Z", "2001-09-09T01:46:40Zx",
    ] { #expect(Timestamp.parse(bad) == nil, "\(bad)") }
  }

  @Test(
    arguments: [
      (0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (599, "9m59s"), (600, "10m"), (10799, "179m"),
      (10800, "3h"),
      (18120, "5h2m"), (8 * 3600, "8h"), (48 * 3600, "2d"), (50 * 3600, "2d2h"), (8 * 86400, "8d"),
      (800 * 86400, "2y70d"),
      (9 * 365 * 86400, "9y"), (-5, "<invalid>"),
    ] as [(Int64, String)])
  func humanDurations(_ seconds: Int64, _ text: String) { #expect(HumanDuration.format(.seconds(seconds)) == text) }

  @Test func base64() {
    for (plain, text) in [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ] {
      #expect(Base64.encode(Array(plain.utf8)) == text)
      #expect(Base64.decode(text) == Array(plain.utf8))
    }
    for bad in ["Z", "Zg", "Zg=", "Zg===", "Z===", "Zm8=Zm8=", "Zm9v!", "=Zm8", "Zm=8"] {
      #expect(Base64.decode(bad) == nil, "\(bad)")
    }
  }

  @Test func names() {
    #expect(Names.label("web-1").isEmpty && Names.subdomain("a.b-c.d1").isEmpty)
    for bad in ["", "Web", "-a", "a-", "a.b", String(repeating: "a", count: 64)] { #expect(!Names.label(bad).isEmpty) }
    for bad in ["", ".", "-", ".a", "a..b", "a.", "a-.b", "a.-b", "-a", "a-", "A", "a_b", "\u{e9}"] {
      #expect(!Names.subdomain(bad).isEmpty, "\(bad)")
    }
    #expect(Names.qualifiedName("example.com/My_name.1").isEmpty && Names.qualifiedName("a").isEmpty)
    for bad in ["", "a/", "/a", "a/b/c", "A/a", "a b"] { #expect(!Names.qualifiedName(bad).isEmpty, "\(bad)") }
    #expect(Names.labelValue("").isEmpty && Names.labelValue("a_B.c-1").isEmpty && !Names.labelValue("-").isEmpty)
    #expect(Names.configKey("a.B_c-1").isEmpty && !Names.configKey("..").isEmpty && !Names.configKey("a/b").isEmpty)
    #expect(Names.portName("http-1").isEmpty && !Names.portName("80").isEmpty && !Names.portName("a--b").isEmpty)
    let name = Names.generate(String(repeating: "x", count: 70) + "-", random: SeededRandom(seed: 1))
    #expect(name.utf8.count == 63 && Names.label(name).isEmpty)
  }

  @Test func intOrString() {
    #expect(IntOrString.string("25%").scaled(of: 10, roundUp: true) == 3)
    #expect(IntOrString.string("25%").scaled(of: 10, roundUp: false) == 2)
    #expect(IntOrString.int(4).scaled(of: 10, roundUp: true) == 4)
    #expect(IntOrString.string("x%").scaled(of: 10, roundUp: true) == nil)
  }

  @Test func conditionsMoveTheirTimeOnlyWithTheStatus() {
    var status: Value = [:]
    let (t0, t1) = (WallTime(seconds: 1000), WallTime(seconds: 2000))
    #expect(Conditions.set(&status, Condition("Ready", true, reason: "A"), now: t0))
    #expect(!Conditions.set(&status, Condition("Ready", true, reason: "A"), now: t1))
    #expect(Conditions.set(&status, Condition("Ready", true, reason: "B"), now: t1))
    #expect(Conditions.get(status, "Ready")?.lastTransitionTime == Timestamp.format(t0))
    #expect(Conditions.set(&status, Condition("Ready", false), now: t1))
    #expect(Conditions.get(status, "Ready")?.lastTransitionTime == Timestamp.format(t1))
    #expect(Conditions.all(status).count == 1)
  }
}
