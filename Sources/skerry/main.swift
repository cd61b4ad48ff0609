import CommandLine

await SkerryCommand.start()
