from diarserve.cli import main

raise SystemExit(main())
