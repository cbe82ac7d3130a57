#!/usr/bin/env bash
# Makes what a deployment keeps secret, at random, into a new folder that only you can enter. Each .env file is what one kind of process
# may know. A folder that is there is left as it is: its secrets may be in use.
set -euo pipefail
folder=${1:?usage: make_secrets.sh FOLDER}
if [[ -e $folder ]]; then
  echo "make_secrets.sh: $folder is there already" >&2
  exit 1
fi
umask 077
mkdir -p -- "$(dirname -- "$folder")"
made=$(mktemp -d -- "$folder.XXXXXX")
trap 'rm -rf -- "$made"' EXIT

# Hexadecimal: it needs no quoting in a URL, in SQL or in an .env file.
secret() { openssl rand -hex 24; }
superuser=$(secret) autoloader=$(secret) prefect=$(secret) prefect_login=autoloader:$(secret) spark=$(secret)

cat > "$made/postgres.env" <<END
POSTGRES_PASSWORD=$superuser
POSTGRES_AUTOLOADER_PASSWORD=$autoloader
POSTGRES_PREFECT_PASSWORD=$prefect
END

cat > "$made/prefect.env" <<END
PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://prefect:$prefect@postgres:5432/prefect
PREFECT_SERVER_API_AUTH_STRING=$prefect_login
END

cat > "$made/spark.env" <<END
AUTOLOADER_SPARK_TOKEN=$spark
END

# The last two are yours to fill in: a line each, without quotes around the JSON.
cat > "$made/autoloader.env" <<END
AUTOLOADER_DATABASE_URL=postgresql+asyncpg://autoloader:$autoloader@postgres:5432/autoloader
AUTOLOADER_PREFECT_AUTH_STRING=$prefect_login
AUTOLOADER_SPARK_TOKEN=$spark
AUTOLOADER_WEBHOOK_KEY=$(openssl rand -base64 32)
AUTOLOADER_METRICS_TOKEN=$(secret)
AUTOLOADER_CREDENTIALS={}
AUTOLOADER_CATALOG_PROPERTIES={}
END

# The first key of the API, an ADMIN's.
echo "al_$(openssl rand -hex 6)_$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=')" > "$made/local.key"

# Clients of Spark trust this certificate and no other.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj /CN=spark -addext subjectAltName=DNS:spark \
  -keyout "$made/spark.key" -out "$made/spark.crt" 2> /dev/null

# Compose mounts these as they are, and the user in the container is another one; the folder keeps everybody else out.
chmod 644 "$made/local.key" "$made/spark.key" "$made/spark.crt"
mv -- "$made" "$folder"
