from siamtune.cli.main import run

run()
