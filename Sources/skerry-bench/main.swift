import Bench

BenchCommand.main(CommandLine.arguments)
